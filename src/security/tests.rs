use super::*;

fn participant(id: &str, tokens: &[&str]) -> Arc<Participant> {
    Arc::new(Participant {
        token_sha256: tokens.iter().map(|token| sha256_hex(token).into()).collect(),
        ..Participant::new(id)
    })
}

fn operator(name: &str, token: &str, role: Role) -> Operator {
    Operator { name: name.into(), token_sha256: vec![sha256_hex(token).into()], role }
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    }
    map
}

use axum::http::{HeaderName, Version};

const BASE: &str = "https://Router.example.org/fhir";

#[test]
fn without_credentials_only_direct_loopback_requests_are_served() {
    let credentials = Credentials::new(&[participant("lab", &[])], Vec::new(), BASE).unwrap();
    let cases: &[(&[(&str, &str)], bool)] = &[
        (&[], true),
        (&[("host", "localhost:8080")], true),
        (&[("host", "LOCALHOST")], true),
        (&[("host", "127.0.0.1:1")], true),
        (&[("host", "127.9.9.9")], true),
        (&[("host", "[::1]:8080")], true),
        (&[("host", "router.example.org")], true),
        (&[("host", "router.example.org:443")], true),
        (&[("host", "router.example.org:8443")], false),
        (&[("host", "evil.example")], false),
        (&[("host", "localhost.evil.example")], false),
        (&[("host", "127.0.0.1.evil.example")], false),
        (&[("host", "localhost@evil.example")], false),
        (&[("host", "localhost:port")], false),
        (&[("host", "10.0.0.1")], false),
        (&[("host", "")], false),
        (&[("host", "localhost"), ("host", "evil.example")], false),
        (&[("host", "localhost"), ("origin", "http://localhost:3000")], true),
        (&[("host", "localhost"), ("origin", "https://router.example.org")], true),
        (&[("host", "localhost"), ("origin", "http://router.example.org")], false),
        (&[("host", "localhost"), ("origin", "https://evil.example")], false),
        (&[("host", "localhost"), ("origin", "null")], false),
        (&[("host", "localhost"), ("forwarded", "for=1.2.3.4")], false),
        (&[("host", "localhost"), ("x-forwarded-for", "127.0.0.1")], false),
        (&[("host", "localhost"), ("x-forwarded-proto", "https")], false),
        (&[("host", "localhost"), ("x-real-ip", "127.0.0.1")], false),
        (&[("host", "localhost"), ("cf-connecting-ip", "127.0.0.1")], false),
        (&[("host", "localhost"), ("via", "1.1 hub")], true),
        (&[("host", "localhost"), ("authorization", "Bearer anything")], true),
    ];
    for (pairs, served) in cases {
        assert_admitted(&credentials, Version::HTTP_11, "/x", pairs, *served);
    }
    assert_eq!(credentials.authenticate(&headers(&[])).unwrap(), Principal::Loopback);
}

#[track_caller]
fn assert_admitted(credentials: &Credentials, version: Version, uri: &str, pairs: &[(&str, &str)], served: bool) {
    let mut request = Request::builder().version(version).uri(uri).body(()).unwrap();
    *request.headers_mut() = headers(pairs);
    match credentials.admit(&request, false, &[]) {
        Ok(()) => assert!(served, "{version:?} {uri} {pairs:?} was served"),
        Err(issue) => {
            assert!(!served, "{version:?} {uri} {pairs:?} was refused");
            assert_eq!((issue.cause, issue.code), (Fault::RouteClosed, IssueCode::Forbidden));
        }
    }
}

#[test]
fn the_effective_host_is_checked_in_every_version_of_http() {
    let credentials = Credentials::new(&[], Vec::new(), BASE).unwrap();
    type Case = (Version, &'static str, &'static [(&'static str, &'static str)], bool);
    let cases: &[Case] = &[
        (Version::HTTP_11, "http://localhost/x", &[("host", "localhost")], true),
        (Version::HTTP_11, "http://evil.example/x", &[("host", "localhost")], false),
        (Version::HTTP_11, "http://localhost/x", &[("host", "evil.example")], true),
        (Version::HTTP_2, "http://localhost/x", &[], true),
        (Version::HTTP_2, "http://evil.example/x", &[], false),
        (Version::HTTP_2, "http://evil.example/x", &[("host", "localhost")], false),
        (Version::HTTP_2, "http://localhost/x", &[("host", "evil.example")], false),
        (Version::HTTP_10, "/x", &[("host", "localhost")], false),
        (Version::HTTP_10, "/x", &[], false),
    ];
    for (version, uri, pairs, served) in cases {
        assert_admitted(&credentials, *version, uri, pairs, *served);
    }
}

#[test]
fn a_proxy_may_ask_for_health_of_a_router_without_credentials_and_a_foreign_page_may_not() {
    let credentials = Credentials::new(&[], Vec::new(), BASE).unwrap();
    for (version, pairs, served) in [
        (Version::HTTP_10, &[][..], true),
        (Version::HTTP_11, &[("host", "localhost"), ("x-real-ip", "10.0.0.1")], true),
        (Version::HTTP_11, &[("host", "evil.example")], false),
        (Version::HTTP_11, &[("host", "localhost"), ("origin", "https://evil.example")], false),
    ] {
        let mut request = Request::builder().version(version).uri("/health/ready").body(()).unwrap();
        *request.headers_mut() = headers(pairs);
        assert_eq!(credentials.admit(&request, true, &[]).is_ok(), served, "{version:?} {pairs:?}");
    }
}

#[test]
fn with_credentials_the_token_says_who_asks() {
    let operators = vec![operator("duty", "o1", Role::Operator), operator("eyes", "v1", Role::Viewer)];
    let credentials = Credentials::new(&[participant("lab", &["t1", "t2"])], operators, BASE).unwrap();
    type Case = (&'static [(&'static str, &'static str)], Result<&'static str, IssueCode>);
    let cases: &[Case] = &[
        (&[("authorization", "Bearer t1")], Ok("participant lab")),
        (&[("authorization", "bearer  t2 ")], Ok("participant lab")),
        (&[("authorization", "Bearer o1"), ("host", "anything.example")], Ok("operator duty")),
        (&[("authorization", "Bearer v1"), ("x-forwarded-for", "1.2.3.4")], Ok("operator eyes")),
        (&[("host", "localhost")], Err(IssueCode::Login)),
        (&[("authorization", "Basic dDE=")], Err(IssueCode::Login)),
        (&[("authorization", "Bearer")], Err(IssueCode::Login)),
        (&[("authorization", "Bearer ")], Err(IssueCode::Login)),
        (&[("authorization", "Bearer T1")], Err(IssueCode::Unknown)),
        (&[("authorization", "Bearer t1 t2")], Err(IssueCode::Unknown)),
        (&[("authorization", "Bearer t1"), ("authorization", "Bearer o1")], Err(IssueCode::Login)),
    ];
    for (pairs, expected) in cases {
        match (credentials.authenticate(&headers(pairs)), expected) {
            (Ok(who), Ok(party)) => assert_eq!(who.label(), *party),
            (Err(issue), Err(code)) => assert_eq!((issue.cause, issue.code), (Fault::SendCredential, *code)),
            (got, _) => panic!("{pairs:?} gave {got:?}"),
        }
    }
}

#[test]
fn a_refusal_never_repeats_the_token() {
    let credentials = Credentials::new(&[participant("lab", &["t1"])], Vec::new(), BASE).unwrap();
    let issue = credentials.authenticate(&headers(&[("authorization", "Bearer hunter2")])).unwrap_err();
    assert!(!format!("{issue:?}").contains("hunter2"));
}

#[test]
fn mistakes_of_configuration_are_reported_together() {
    let mut wrong = operator("duty", "t1", Role::Viewer);
    wrong.token_sha256.push("ABC".into());
    let parties = [participant("lab", &["t1", "t1"]), participant("ward", &["t3"])];
    let errors = Credentials::new(&parties, vec![wrong, operator("duty", "t3", Role::Viewer)], BASE).unwrap_err();
    let expected = [
        "token_sha256[0] of operator duty also belongs to participant lab",
        "token_sha256[1] of operator duty is not 64 lower-case hex digits",
        "operator duty is configured twice",
        "token_sha256[0] of operator duty also belongs to participant ward",
    ];
    assert_eq!(errors, expected);
}

#[test]
fn a_digest_is_the_known_sha256() {
    assert_eq!(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

#[test]
fn roles_are_ordered_by_their_rights() {
    assert!(Role::Operator > Role::Viewer);
    assert_eq!(Principal::Loopback.role(), Some(Role::Operator));
    assert_eq!(Principal::Participant("lab".into()).role(), None);
}
