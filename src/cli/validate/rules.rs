//! What messages are held against: definitions of the configuration and of packages, profiles compiled when the first
//! message of their version comes.

use crate::cli::failure::Failure;
use crate::clock::Clock;
use crate::config::{Config, Mistake, Overrides, UnknownEvents};
use crate::fhir::FhirVersion;
use crate::validation::definition::Definitions;
use crate::validation::profile::{Asked, Profiles};
use crate::validation::{Against, Checks, Level, ProseRules};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

pub struct Rules {
    pub checks: Checks,
    definitions: Definitions,
    /// By version: R4, R4B, R5; with the mistakes of their definitions.
    profiles: [OnceLock<(Profiles, Vec<String>)>; 3],
    now_us: i64,
}

impl Rules {
    /// Errs with every mistake of the configuration and its definitions. What is wrong in a package is told on standard
    /// error, and the rest of it holds: a guide may lean on others that are not at hand.
    pub fn new(
        config: Option<&Path>,
        level: Option<Level>,
        prose_rules: Option<ProseRules>,
        packages: &[PathBuf],
    ) -> Result<Rules, Failure> {
        let usage = |mistakes: Vec<String>| Failure::Usage(mistakes.join("\nemberpost: "));
        let lines = |mistakes: &[Mistake]| mistakes.iter().map(Mistake::to_string).collect::<Vec<_>>();
        let config = Config::open(config, &Overrides::default()).map_err(|mistakes| usage(lines(&mistakes)))?;
        let (mut files, unread) = config.read_definitions();
        let wrong: Vec<String> = lines(&unread).into_iter().chain(Definitions::load(&files).1).collect();
        if !wrong.is_empty() {
            return Err(usage(wrong));
        }
        files.extend(read_packages(&config, packages)?);
        let (definitions, mistakes) = Definitions::load(&files);
        tell(&mistakes);
        // Nobody said which events there are: then none is unknown.
        let take_unknown_events = config.file.is_none() || config.definitions.unknown_events == UnknownEvents::Route;
        let checks = Checks {
            level: level.unwrap_or(config.validation.level),
            prose_rules: prose_rules.unwrap_or(config.validation.prose_rules),
            take_unknown_events,
        };
        Ok(Rules { checks, definitions, profiles: Default::default(), now_us: Clock::default().now_us() })
    }

    pub fn against(&self, version: FhirVersion) -> Against<'_> {
        let profiles = (self.checks.level >= Level::Profile).then(|| {
            let place = match version {
                FhirVersion::R4 => &self.profiles[0],
                FhirVersion::R4B => &self.profiles[1],
                FhirVersion::R5 => &self.profiles[2],
            };
            let (profiles, _) = place.get_or_init(|| Profiles::compile(&self.definitions, version));
            (profiles, Asked { now_us: self.now_us, must_support: false })
        });
        Against { definitions: &self.definitions, profiles }
    }

    /// Tells on standard error what is wrong with the profiles that were asked for.
    pub fn tell_mistakes(&self) {
        for (_, mistakes) in self.profiles.iter().filter_map(OnceLock::get) {
            tell(mistakes);
        }
    }
}

fn tell(mistakes: &[String]) {
    for mistake in mistakes {
        eprintln!("emberpost: {mistake}");
    }
}

fn read_packages(
    config: &Config,
    packages: &[PathBuf],
) -> Result<Vec<crate::validation::definition::DefinitionFile>, Failure> {
    if let Some(missing) = packages.iter().find(|path| !path.exists()) {
        return Err(Failure::Usage(format!("--package names {}, which is not there", missing.display())));
    }
    if packages.is_empty() {
        return Ok(Vec::new());
    }
    let mut of_packages = config.clone();
    of_packages.definitions.paths = packages.to_vec();
    let (files, mistakes) = of_packages.read_definitions();
    match mistakes.first() {
        Some(mistake) => Err(Failure::Usage(mistake.to_string())),
        None => Ok(files),
    }
}
