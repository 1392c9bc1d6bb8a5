use super::*;
use serde_json::json;
use std::io::Write;

/// A package of these files, packed as publishers do.
pub(crate) fn packed(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        archive.append_data(&mut header, path, *content).expect("a file is added");
    }
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(&archive.into_inner().expect("an archive")).expect("it is packed");
    packer.finish().expect("it is packed")
}

fn package_json() -> Vec<u8> {
    json!({ "name": "x.guide", "version": "1.2.0", "fhirVersions": ["4.0.1"],
        "dependencies": { "hl7.fhir.r4.core": "4.0.1", "x.other": "2.0.0" } })
    .to_string()
    .into_bytes()
}

#[test]
fn a_package_has_a_manifest_and_the_resources_beside_it() {
    let bytes = packed(&[
        ("package/package.json", &package_json()),
        ("package/.index.json", b"{}"),
        ("package/StructureDefinition-a.json", b"{\"resourceType\":\"StructureDefinition\"}"),
        ("package/example/Patient-1.json", b"{}"),
        ("package/readme.md", b"text"),
        ("other/ValueSet-a.json", b"{}"),
    ]);
    let package = read(&bytes).expect("a package");
    assert_eq!((package.name.as_str(), package.version.as_str()), ("x.guide", "1.2.0"));
    assert_eq!(package.fhir_version(), Some(FhirVersion::R4));
    let dependencies = [("hl7.fhir.r4.core", "4.0.1"), ("x.other", "2.0.0")];
    assert_eq!(package.dependencies, dependencies.map(|(name, version)| (name.to_owned(), version.to_owned())));
    let paths: Vec<&str> = package.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["package/StructureDefinition-a.json"]);
}

#[test]
fn a_file_that_is_not_a_package_is_refused_with_a_sentence() {
    assert!(read(b"no gzip").expect_err("refused").starts_with("is not a readable gzipped tar"));
    let nothing = packed(&[("package/a.json", b"{}")]);
    assert!(read(&nothing).expect_err("refused").starts_with("has no package/package.json"));
    let mut cut = packed(&[("package/package.json", &package_json()), ("package/a.json", &[b' '; 9000])]);
    cut.truncate(cut.len() - 20);
    assert!(read(&cut).is_err());
}

#[test]
fn a_package_that_unpacks_beyond_the_limit_is_refused() {
    let large = vec![b' '; usize::try_from(FILE_LIMIT_BYTES).expect("a length") + 1];
    let bytes = packed(&[("package/package.json", &package_json()), ("package/large.json", &large)]);
    assert!(bytes.len() < 1 << 20);
    assert!(read(&bytes).expect_err("refused").contains("bytes"));
}

#[test]
fn packages_of_the_base_are_built_in() {
    for name in [
        "hl7.fhir.r4.core",
        "hl7.fhir.r5.core",
        "hl7.terminology.r4",
        "hl7.fhir.uv.extensions.r4",
        "hl7.fhir.r4b.expansions",
    ] {
        assert!(is_built_in(name), "{name}");
    }
    for name in ["hl7.fhir.us.core", "hl7.fhir.uv.ips", "de.basisprofil.r4"] {
        assert!(!is_built_in(name), "{name}");
    }
}
