//! The event of a message, `MessageHeader.event[x]`, and the codes related to it.

use serde::{Deserialize, Serialize};
use std::fmt;

/// `event[x]`: a Coding (equal if system and code are, MSG-31), or a uri or canonical.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Event {
    /// A code of a code system.
    Coding {
        /// The code system; None if the Coding has none.
        system: Option<String>,
        /// The code within the system.
        code: String,
    },
    /// A URI; in R5 a canonical, which may have `|version`.
    Uri(String),
}

impl Event {
    /// Whether the event matches a pattern as written in configuration: `system|code`, a bare code, a uri, or `*`.
    pub fn matches(&self, pattern: &str) -> bool {
        match self {
            _ if pattern == "*" => true,
            Event::Coding { system, code } => match pattern.rsplit_once('|') {
                Some((wanted, rest)) => rest == code && system.as_deref() == Some(wanted),
                None => pattern == code,
            },
            Event::Uri(uri) => pattern == uri || uri.rsplit_once('|').is_some_and(|(url, _)| url == pattern),
        }
    }

    /// The code; the uri if the event has no code.
    pub fn code(&self) -> &str {
        match self {
            Event::Coding { code, .. } => code,
            Event::Uri(uri) => uri,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Coding { system: Some(system), code } => write!(f, "{system}|{code}"),
            Event::Coding { system: None, code } => f.write_str(code),
            Event::Uri(uri) => f.write_str(uri),
        }
    }
}

/// `MessageHeader.response.code` (MSG-35).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResponseCode {
    /// `ok`: accepted and processed.
    Ok,
    /// `transient-error`: may be sent again later.
    TransientError,
    /// `fatal-error`: must not be sent again unchanged.
    FatalError,
}

impl ResponseCode {
    /// Reads the code; None if it is not one of the code system.
    pub fn parse(code: &str) -> Option<Self> {
        match code {
            "ok" => Some(Self::Ok),
            "transient-error" => Some(Self::TransientError),
            "fatal-error" => Some(Self::FatalError),
            _ => None,
        }
    }

    /// The code.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::TransientError => "transient-error",
            Self::FatalError => "fatal-error",
        }
    }
}

/// Whether the sender requires a response: `responseRequired` (MSG-48) or its extension on the header (MSG-49).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResponseRequired {
    /// `always`.
    Always,
    /// `on-error`: only if processing failed.
    OnError,
    /// `never`.
    Never,
    /// `on-success`: only if processing succeeded.
    OnSuccess,
}

impl ResponseRequired {
    /// Reads the code; None if it is not one of the code system.
    pub fn parse(code: &str) -> Option<Self> {
        match code {
            "always" => Some(Self::Always),
            "on-error" => Some(Self::OnError),
            "never" => Some(Self::Never),
            "on-success" => Some(Self::OnSuccess),
            _ => None,
        }
    }

    /// Whether the sender requires a response message with this code.
    pub fn wants(self, code: ResponseCode) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::OnError => code != ResponseCode::Ok,
            Self::OnSuccess => code == ResponseCode::Ok,
        }
    }
}

/// `MessageDefinition.category` (MSG-45).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Category {
    /// `consequence`: must be processed at most once.
    Consequence,
    /// `currency`: a query for current data.
    Currency,
    /// `notification`: may be processed again.
    Notification,
}

impl Category {
    /// Reads the code; None if it is not one of the code system.
    pub fn parse(code: &str) -> Option<Self> {
        match code {
            "consequence" => Some(Self::Consequence),
            "currency" => Some(Self::Currency),
            "notification" => Some(Self::Notification),
            _ => None,
        }
    }
}

/// An Identifier by system and value, the parts that are compared for identity.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identifier {
    /// The namespace of the value.
    pub system: Option<String>,
    /// The value within the system.
    pub value: String,
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.system {
            Some(system) => write!(f, "{system}|{}", self.value),
            None => f.write_str(&self.value),
        }
    }
}
