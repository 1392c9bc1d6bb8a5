//! `store.url`: the database that holds the messages. A URL of PostgreSQL may contain a password, which is never printed.

use crate::secret::SecretUrl;
use std::fmt;
use std::path::PathBuf;

/// Parameters of a PostgreSQL URL. Others are errors, because the client would ignore them.
const PARAMETERS: [&str; 6] = ["sslmode", "sslrootcert", "sslcert", "sslkey", "host", "user"];
const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// The database file.
    Sqlite(PathBuf),
    Postgres(SecretUrl),
}

impl StoreUrl {
    /// Errs with what is wrong: a text that follows the name of the setting and quotes nothing.
    pub fn parse(text: &str) -> Result<StoreUrl, String> {
        match text.split_once(':') {
            Some(("sqlite", path)) if !path.trim_start_matches('/').is_empty() && !path.contains(['?', ':']) => {
                // `sqlite://data.db` and `sqlite:///var/data.db` are common spellings too.
                Ok(StoreUrl::Sqlite(path.strip_prefix("//").unwrap_or(path).into()))
            }
            Some(("sqlite", _)) => Err("must name a file, such as sqlite:emberpost-data/emberpost.db".into()),
            Some(("postgres" | "postgresql", _)) => {
                check_postgres(text)?;
                Ok(StoreUrl::Postgres(text.into()))
            }
            _ => Err("must be sqlite:PATH, such as sqlite:emberpost-data/emberpost.db, or \
                      postgres://USER:PASSWORD@HOST:PORT/DATABASE"
                .into()),
        }
    }
}

impl Default for StoreUrl {
    /// A value for a configuration that is refused anyway.
    fn default() -> Self {
        StoreUrl::Sqlite(PathBuf::new())
    }
}

/// Without the password.
impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreUrl::Sqlite(path) => path.display().fmt(f),
            StoreUrl::Postgres(url) => url.fmt(f),
        }
    }
}

fn check_postgres(text: &str) -> Result<(), String> {
    let url = url::Url::parse(text).map_err(|error| format!("is not a valid URL of PostgreSQL: {error}"))?;
    let parameters: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    for (name, value) in &parameters {
        if !PARAMETERS.contains(&name.as_str()) {
            return Err(format!("has a parameter that is not one of {}", PARAMETERS.join(", ")));
        }
        if name == "sslmode" && !SSL_MODES.contains(&value.as_str()) {
            return Err(format!("has an sslmode that is not one of {}", SSL_MODES.join(", ")));
        }
        if name == "host" && !value.starts_with('/') {
            return Err(
                "has a parameter host that is not the folder of a socket; put the name of a host before the path"
                    .into(),
            );
        }
    }
    let has = |wanted: &str| parameters.iter().any(|(name, _)| name == wanted);
    if has("sslcert") != has("sslkey") {
        return Err("has only one of sslcert and sslkey, which belong together".into());
    }
    if url.host_str().is_none_or(str::is_empty) && !has("host") {
        return Err("names no host, as in postgres://USER:PASSWORD@HOST:PORT/DATABASE".into());
    }
    let database = url.path().trim_start_matches('/');
    if database.is_empty() || database.contains('/') {
        return Err("names no database, as in postgres://USER:PASSWORD@HOST:PORT/DATABASE".into());
    }
    match url.fragment() {
        Some(_) => Err("has a part after #; write %23 for this character in a password".into()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_file_or_a_database() {
        for (text, path) in [("sqlite:a/b.db", "a/b.db"), ("sqlite:///a/b.db", "/a/b.db"), ("sqlite://b.db", "b.db")] {
            assert_eq!(StoreUrl::parse(text), Ok(StoreUrl::Sqlite(path.into())));
        }
        for text in [
            "postgres://db.example/emberpost",
            "postgresql://user:secret@10.0.0.1:5433/emberpost?sslmode=verify-full&sslrootcert=/etc/ca.pem",
            "postgres:///emberpost?host=/run/postgresql&user=emberpost",
        ] {
            assert_eq!(StoreUrl::parse(text), Ok(StoreUrl::Postgres(text.into())));
        }
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said_without_quoting_it() {
        for (text, wrong) in [
            ("mysql://h/secret", "must be sqlite:PATH"),
            ("sqlite:", "must name a file"),
            ("postgres://user:secret@/db", "is not a valid URL"),
            ("postgres:///secret", "names no host"),
            ("postgres://user:secret@h", "names no database"),
            ("postgres://user:secret@h/a/b", "names no database"),
            ("postgres://user:secret@h:port/db", "is not a valid URL"),
            ("postgres://user:secret@h/db?pasword=secret", "has a parameter"),
            ("postgres://user:secret@h/db?sslmode=secret", "has an sslmode"),
            ("postgres://user:secret@h/db?sslcert=secret", "has only one of"),
            ("postgres://user:secret@h/db?host=secret", "has a parameter host"),
            ("postgres://user:secret@h/db#secret", "has a part after #"),
        ] {
            let found = StoreUrl::parse(text).unwrap_err();
            assert!(found.starts_with(wrong) && !found.contains("secret"), "{text}: {found}");
        }
        let url = StoreUrl::parse("postgres://user:secret@h/db?sslmode=require").unwrap();
        assert_eq!(url.to_string(), "postgres://h/db?…");
        assert!(!format!("{url:?}").contains("secret"));
    }
}
