//! The client of a running router's admin API: addresses, token, limits, and errors in sentences for people.

use super::failure::Failure;
use super::table;
use crate::admin::api::Page;
use clap::ValueEnum;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::io::Write;
use std::time::Duration;

/// Limit of a JSON answer of the admin API.
const ANSWER_LIMIT_BYTES: usize = 20 * 1024 * 1024;
const CONNECT_TIMEOUT_SECONDS: u64 = 10;
/// The longest pause of a server within an answer.
const READ_TIMEOUT_SECONDS: u64 = 120;
/// Entries of one page of a list.
const PAGE_LIMIT: usize = 500;
pub const TOKEN_VARIABLE: &str = "EMBERPOST_TOKEN";

/// Which router a command calls. The token comes from the variable EMBERPOST_TOKEN.
#[derive(Debug, clap::Args)]
pub struct Server {
    /// The running router; the variable EMBERPOST_TOKEN holds the token
    #[arg(long, global = true, value_name = "URL", default_value = "http://127.0.0.1:8080", value_parser = http_url)]
    pub server: Url,
}

/// The format of lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns
    #[default]
    Table,
    /// One array of the objects of the admin API
    Json,
    /// One object per line
    Ndjson,
}

/// An absolute http or https URL.
pub fn http_url(text: &str) -> Result<Url, String> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        _ => Err("give a URL that starts with http:// or https://".into()),
    }
}

/// The client of one router.
pub struct Client {
    http: reqwest::Client,
    server: Url,
    token: Option<HeaderValue>,
}

impl Client {
    pub fn new(server: &Server) -> Result<Client, Failure> {
        let http = http_client(&server.server).read_timeout(Duration::from_secs(READ_TIMEOUT_SECONDS)).build();
        let http = http.map_err(|error| Failure::Usage(format!("cannot start the HTTP client: {}", why(&error))))?;
        Ok(Client { http, server: server.server.clone(), token: token_of(TOKEN_VARIABLE)? })
    }

    /// GET of `path` (segments below /admin/v1).
    pub async fn get<T: DeserializeOwned>(&self, path: &[&str], query: &[(String, String)]) -> Result<T, Failure> {
        read(json(self.ask(self.request(Method::GET, path, query)).await?).await?)
    }

    /// POST of a JSON document. An answer without a body is read as null.
    pub async fn post<T: DeserializeOwned>(&self, path: &[&str], body: &Value) -> Result<T, Failure> {
        let request = self.request(Method::POST, path, &[]).header(CONTENT_TYPE, "application/json");
        read(json(self.ask(request.body(body.to_string())).await?).await?)
    }

    /// POST of a body of another media type.
    pub async fn post_bytes<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(String, String)],
        media_type: &'static str,
        bytes: Vec<u8>,
    ) -> Result<T, Failure> {
        let request = self.request(Method::POST, path, query).header(CONTENT_TYPE, media_type);
        read(json(self.ask(request.body(bytes)).await?).await?)
    }

    /// GET of `path`; copies the body to `out` as it arrives.
    pub async fn copy(&self, path: &[&str], out: &mut dyn Write) -> Result<(), Failure> {
        let mut response = self.ask(self.request(Method::GET, path, &[])).await?;
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            out.write_all(&chunk)?;
        }
        Ok(())
    }

    /// The first `limit` entries of a list as received, over as many pages as needed.
    pub async fn list(&self, path: &str, filter: &Value, limit: usize) -> Result<Vec<Value>, Failure> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        while items.len() < limit {
            let mut query = pairs(filter);
            query.push(("limit".into(), (limit - items.len()).min(PAGE_LIMIT).to_string()));
            query.extend(cursor.clone().map(|cursor| ("cursor".into(), cursor)));
            let Page { items: page, next } = self.get::<Page<Value>>(&[path], &query).await?;
            let ended = page.is_empty() || next.is_none() || next == cursor;
            items.extend(page);
            if ended {
                break;
            }
            cursor = next;
        }
        items.truncate(limit);
        Ok(items)
    }

    fn request(&self, method: Method, path: &[&str], query: &[(String, String)]) -> RequestBuilder {
        let mut url = self.server.clone();
        // Cannot fail: an http URL always has a path.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["admin", "v1"]).extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let request = self.http.request(method, url);
        match &self.token {
            Some(token) => request.header(AUTHORIZATION, token.clone()),
            None => request,
        }
    }

    /// Sends the request. Any status other than 2xx is a failure with the issues that the server returned.
    async fn ask(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = read_limited(response, ANSWER_LIMIT_BYTES).await.unwrap_or_default();
        let said = table::issues(&serde_json::from_slice(&body).unwrap_or(Value::Null)).join("\n  ");
        let sentence = match status {
            StatusCode::UNAUTHORIZED => {
                format!("the server does not accept this credential (401): set {TOKEN_VARIABLE} to an operator's token")
            }
            StatusCode::FORBIDDEN => {
                "the server forbids this (403): use the token of an operator with a role that permits it".into()
            }
            StatusCode::NOT_FOUND if said.is_empty() => format!("{} does not have this (404)", self.server),
            _ => format!("the server refused ({})", status.as_u16()),
        };
        let separator = if said.is_empty() { "" } else { "\n  " };
        Err(Failure::Refused(format!("{sentence}{separator}{said}")))
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        Failure::Unreachable(format!("cannot reach {}: {}", self.server, why(error)))
    }
}

/// A client that does not follow redirects, and does not use the proxy of the environment for loopback addresses.
pub fn http_client(url: &Url) -> reqwest::ClientBuilder {
    let builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(CONNECT_TIMEOUT_SECONDS))
        .user_agent(concat!("emberpost/", env!("CARGO_PKG_VERSION")));
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let is_loopback = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if is_loopback { builder.no_proxy() } else { builder }
}

/// The value of `Authorization` from a variable; None if it is unset or empty.
pub fn token_of(variable: &str) -> Result<Option<HeaderValue>, Failure> {
    let token = std::env::var(variable).unwrap_or_default();
    if token.is_empty() {
        return Ok(None);
    }
    match HeaderValue::try_from(format!("Bearer {}", token.trim())) {
        Ok(mut value) => {
            value.set_sensitive(true);
            Ok(Some(value))
        }
        Err(_) => Err(Failure::Usage(format!(
            "{variable} does not hold a valid token: it has characters that a header cannot contain"
        ))),
    }
}

/// The innermost cause of a failed request, such as `Connection refused`.
pub fn why(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".into();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    table::plain(&cause.to_string())
}

/// The body of an answer. Fails if it is longer than `limit_bytes` or the connection is lost.
pub async fn read_limited(mut response: Response, limit_bytes: usize) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| why(&error))? {
        if body.len() + chunk.len() > limit_bytes {
            return Err(format!("its answer is longer than {limit_bytes} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Reads an answer as a type of the admin API.
pub fn read<T: DeserializeOwned>(answer: Value) -> Result<T, Failure> {
    T::deserialize(answer).map_err(|error| {
        Failure::Refused(format!(
            "the server's answer is not one that emberpost {} can read ({error}); is it an Emberpost router of this version?",
            env!("CARGO_PKG_VERSION")
        ))
    })
}

async fn json(response: Response) -> Result<Value, Failure> {
    let body = read_limited(response, ANSWER_LIMIT_BYTES).await;
    let body = body.map_err(|error| {
        Failure::Unreachable(format!("the connection was lost within the server's answer: {error}"))
    })?;
    if body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&body)
        .map_err(|_| Failure::Refused("the server's answer is not valid JSON; is it an Emberpost router?".into()))
}

/// The members of a filter that are set, as query parameters.
fn pairs(filter: &Value) -> Vec<(String, String)> {
    let members = filter.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    members.map(|(name, value)| (name.clone(), table::text(value))).collect()
}

/// A filter as a JSON document without the members that are not set.
pub fn document(filter: impl serde::Serialize) -> Value {
    match serde_json::to_value(filter) {
        Ok(Value::Object(members)) => members.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        _ => Value::Null,
    }
}

/// Prints a list: as a table of `row`s under `headings`, or the objects as received.
pub fn write_list<T: DeserializeOwned>(
    out: &mut dyn Write,
    format: Format,
    items: Vec<Value>,
    headings: &[&str],
    row: impl Fn(T) -> Vec<String>,
) -> Result<(), Failure> {
    match format {
        Format::Ndjson => items.iter().try_for_each(|item| writeln!(out, "{item}"))?,
        Format::Json => writeln!(out, "{:#}", Value::Array(items))?,
        Format::Table => {
            let mut table = table::Table::new(headings);
            for item in items {
                table.push(row(read(item)?));
            }
            table.write(out)?;
        }
    }
    Ok(())
}
