use super::*;
use FhirVersion::{R4, R5};
use Primitive::*;

fn all(of: Primitive, version: FhirVersion, good: &[&str], bad: &[&str]) {
    for text in good {
        assert!(fits(of, text.as_bytes(), version), "{text} should be a {of:?} in {version:?}");
    }
    for text in bad {
        assert!(!fits(of, text.as_bytes(), version), "{text} should be no {of:?} in {version:?}");
    }
}

#[test]
fn a_date_names_a_day_that_exists() {
    let good = ["2023", "2023-05", "2024-02-29", "2000-02-29", "0001-01-01"];
    let bad = ["0000", "23", "2023-5", "2023-13", "2023-00", "2023-02-29", "1900-02-29", "2023-04-31", "2023-01-00"];
    all(Date, R4, &good, &bad);
    all(
        Date,
        R4,
        &[],
        &["2023-05-04T08:00:00Z", "2023/05/04", "20230504", "2023-", "2023-05-", " 2023", "", "2023-05-4"],
    );
}

#[test]
fn a_date_time_with_a_time_has_seconds_and_a_zone() {
    let good = ["2023", "2023-05", "2023-05-04", "2023-05-04T08:15:00Z", "2023-05-04T23:59:60+14:00"];
    let bad = [
        "2023-05-04T08:15Z",
        "2023-05-04T08:15:00",
        "2023-05T08:15:00Z",
        "2023-05-04 08:15:00Z",
        "2023-05-04t08:15:00Z",
    ];
    all(DateTime, R4, &good, &bad);
    let long = "2023-05-04T08:15:00.123456789012-00:00";
    all(DateTime, R4, &[long], &[]);
    all(DateTime, R5, &["2023-05-04T08:15:00.123456789-00:00"], &bad);
    all(DateTime, R5, &[], &[long]);
    let bad = [
        "T24:00:00Z",
        "T08:60:00Z",
        "T08:15:61Z",
        "T08:15:00+15:00",
        "T08:15:00+14:30",
        "T08:15:00+0100",
        "T08:15:00,5Z",
    ];
    for time in bad {
        all(DateTime, R4, &[], &[&format!("2023-05-04{time}")]);
    }
}

#[test]
fn an_instant_is_a_whole_moment() {
    all(
        Instant,
        R4,
        &["2023-05-04T08:15:00.1234567891Z"],
        &["2023", "2023-05-04", "2023-05-04T08:15:00", "2023-05-04T08:15:00.Z"],
    );
    all(Instant, R5, &["2023-05-04T08:15:00.123456789Z"], &["2023-05-04T08:15:00.1234567891Z"]);
}

#[test]
fn a_time_may_have_a_fraction_but_no_zone() {
    all(
        Time,
        R4,
        &["08:15:00", "08:15:00.250", "23:59:60"],
        &["8:15:00", "08:15", "25:00:00", "08:15:00Z", "08:15:00."],
    );
}

#[test]
fn whole_numbers_have_their_ranges() {
    all(
        Integer,
        R4,
        &["0", "-1", "2147483647", "-2147483648", "-0"],
        &["2147483648", "-2147483649", "1.0", "1e2", "01", "+1", "99999999999999999999"],
    );
    all(Integer, R5, &["0"], &["-0"]);
    all(UnsignedInt, R4, &["0", "2147483647"], &["-1", "-0", "2147483648"]);
    all(PositiveInt, R4, &["1"], &["0", "-1"]);
    all(
        Integer64,
        R5,
        &["9223372036854775807", "-9223372036854775808", "+5", "0"],
        &["9223372036854775808", "-9223372036854775809", "", "-", "1.0", "-0"],
    );
}

#[test]
fn r5_limits_the_digits_of_a_decimal() {
    let long = "0.123456789012345678";
    all(
        Decimal,
        R4,
        &["0", "-0", "1.50", "1e10", "1E-3", "-2.5e+7", long],
        &["01", ".5", "5.", "1e", "NaN", "+1", "1e1.5", ""],
    );
    all(
        Decimal,
        R5,
        &["0.12345678901234567", "123456789012345678", "1e1234567890"],
        &[long, "1234567890123456789", "1e12345678901", "1e-05"],
    );
}

#[test]
fn a_code_has_no_white_space_at_its_ends_and_single_ones_inside() {
    all(Code, R4, &["a", "a b", "a\tb"], &[" a", "a ", "a  b", "\u{b}a"]);
    all(Code, R5, &["a b"], &["a\tb"]);
}

#[test]
fn identifiers_of_each_kind_have_their_format() {
    all(Id, R4, &["A-1.b", &"x".repeat(64)], &["a_b", "a b", "é", "a/b", &"x".repeat(65)]);
    all(
        Oid,
        R4,
        &["urn:oid:1.2.0", "urn:oid:2.16.840"],
        &["1.2.3", "urn:oid:3.1", "urn:oid:1.02", "urn:oid:1", "urn:oid:1.", "urn:oid:1.a"],
    );
    all(
        Uuid,
        R4,
        &["urn:uuid:0c1646f0-656a-58bb-9b1f-a5b80b67484e"],
        &["0c1646f0-656a-58bb-9b1f-a5b80b67484e", "urn:uuid:0C1646F0-656A-58BB-9B1F-A5B80B67484E", "urn:uuid:0c1646f0"],
    );
    all(Uri, R4, &["urn:x", "#a", "http://a.example/ä"], &["a b", "a\tb", " a"]);
}

#[test]
fn base64_is_padded_and_of_the_plain_alphabet() {
    all(
        Base64Binary,
        R4,
        &["Zm9v", "Zm8=", "Zg==", "Zm9v\nZm9v"],
        &["Zm9vY", "Zm9-", "Z===", "Zm=v", "data:text/plain;base64,Zm9v", "===="],
    );
}

#[test]
fn a_string_has_at_most_1048576_characters() {
    all(String, R4, &[&"ä".repeat(1_048_576)], &[&"ä".repeat(1_048_577)]);
}
