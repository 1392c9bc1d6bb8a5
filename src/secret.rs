//! Values that must not be printed: passwords, tokens and their hashes, and URLs that contain them.
//!
//! Debug, Display, and serde write a mask, so that a log, an error, or a list cannot show one by accident. Code that
//! needs the value calls `expose`.

use serde::{Serialize, Serializer};
use std::fmt;
use std::sync::Arc;

const MASK: &str = "[masked]";

/// A password, a token, or its hash.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(Arc<str>);

impl Secret {
    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl<T: Into<Arc<str>>> From<T> for Secret {
    fn from(text: T) -> Self {
        Secret(text.into())
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

/// A URL that may contain a password before its host or a key in its query. Neither is printed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SecretUrl(Arc<str>);

impl SecretUrl {
    /// The complete URL, for making a request.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl<T: Into<Arc<str>>> From<T> for SecretUrl {
    fn from(text: T) -> Self {
        SecretUrl(text.into())
    }
}

impl fmt::Display for SecretUrl {
    /// Scheme, host, and path; `?…` stands for a query.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rest, _) = self.0.split_once('#').unwrap_or((&self.0, ""));
        let (rest, query) = rest.split_once('?').map_or((rest, ""), |(rest, _)| (rest, "?…"));
        let Some((scheme, after)) = rest.split_once("://") else { return write!(f, "{MASK}") };
        let end = after.find('/').unwrap_or(after.len());
        let (authority, path) = after.split_at(end);
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        write!(f, "{scheme}://{host}{path}{query}")
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

impl Serialize for SecretUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed<T: fmt::Debug + fmt::Display + Serialize>(value: &T) -> [String; 3] {
        [value.to_string(), format!("{value:?}"), serde_json::to_string(value).unwrap()]
    }

    #[test]
    fn a_secret_is_printed_by_nobody_and_exposed_by_name() {
        let secret = Secret::from("hunter2");
        for text in printed(&secret) {
            assert!(text.contains(MASK) && !text.contains("hunter2"), "{text}");
        }
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn a_url_is_printed_without_user_password_and_query() {
        for (url, shown) in [
            ("https://lab:hunter2@lab.org/fhir", "https://lab.org/fhir"),
            ("https://hunter2@lab.org:8443", "https://lab.org:8443"),
            ("https://lab:hunter2@x@lab.org/fhir", "https://lab.org/fhir"),
            ("https://lab.org/fhir?key=hunter2", "https://lab.org/fhir?…"),
            ("https://lab.org/fhir#hunter2", "https://lab.org/fhir"),
            ("hunter2", MASK),
        ] {
            let secret = SecretUrl::from(url);
            for text in printed(&secret) {
                assert!(text.contains(shown) && !text.contains("hunter2"), "{text}");
            }
            assert_eq!(secret.expose(), url);
        }
    }
}
