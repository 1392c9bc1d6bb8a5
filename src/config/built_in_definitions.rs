//! The definitions that are built into the program, for when their folder does not exist.

use validation::definition::DefinitionFile;

macro_rules! shipped {
    ($name:literal) => {
        ($name, include_str!(concat!("../../message-definitions/", $name)))
    };
}

const FILES: &[(&str, &str)] = &[
    shipped!("CodeSystem-expand-response.json"),
    shipped!("CodeSystem-expand.json"),
    shipped!("MedicationAdministration-Complete-response.json"),
    shipped!("MedicationAdministration-Complete.json"),
    shipped!("MedicationAdministration-Nullification-response.json"),
    shipped!("MedicationAdministration-Nullification.json"),
    shipped!("MedicationAdministration-Recording-response.json"),
    shipped!("MedicationAdministration-Recording.json"),
    shipped!("MedicationAdministration-Update-response.json"),
    shipped!("MedicationAdministration-Update.json"),
    shipped!("admin-notify-response.json"),
    shipped!("admin-notify.json"),
    shipped!("all-events.json"),
    shipped!("communication-request-response.json"),
    shipped!("communication-request.json"),
    shipped!("definition-count-operation.json"),
    shipped!("definition-count-response.json"),
    shipped!("definition-count.json"),
    shipped!("diagnosticreport-provide-response.json"),
    shipped!("diagnosticreport-provide.json"),
    shipped!("observation-provide-response.json"),
    shipped!("observation-provide.json"),
    shipped!("patient-link-response.json"),
    shipped!("patient-link.json"),
    shipped!("patient-unlink-response.json"),
    shipped!("patient-unlink.json"),
    shipped!("pull-events.json"),
    shipped!("push-events.json"),
    shipped!("search-system-response.json"),
    shipped!("search-system.json"),
    shipped!("search-type-response.json"),
    shipped!("search-type.json"),
    shipped!("shipped-events.json"),
    shipped!("valueset-expand-response.json"),
    shipped!("valueset-expand.json"),
];

pub(super) fn files() -> Vec<DefinitionFile> {
    let file = |(name, text): &(&str, &str)| DefinitionFile {
        path: format!("(program)/message-definitions/{name}"),
        bytes: text.as_bytes().to_vec(),
    };
    FILES.iter().map(file).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_holds_every_definition_of_the_folder() {
        let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/message-definitions")).unwrap();
        let names = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name.ends_with(".json")).collect();
        names.sort();
        assert_eq!(names, FILES.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        assert!(files().iter().all(|file| file.path.ends_with(".json")));
    }
}
