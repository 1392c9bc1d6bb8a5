//! An operator assigns an ambiguous response to one of the requests that it fits.

use super::Settler;
use super::correlation::newest;
use crate::delivery::{Acceptance, MessageState, NewMessage};
use crate::exchange::IntakeSlot;
use crate::offload::offload;
use crate::store::Unavailable;
use fhir::format::read;
use fhir::{Format, Message};
use uuid::Uuid;

/// Why a response cannot be assigned.
#[derive(Debug, thiserror::Error)]
pub enum Unassigned {
    #[error("There is no message with the id {0}.")]
    Unknown(Uuid),
    /// The response is not, or no longer, ambiguous; its sender never got the request; or its content is gone.
    #[error("{0}")]
    Impossible(String),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl Settler {
    /// Links a stored ambiguous response to one of the requests that were sent to its sender, and passes it on as if it had
    /// named that request itself.
    pub(in crate::exchange) async fn assign(&self, response: Uuid, request: Uuid) -> Result<(), Unassigned> {
        let rules = self.rules.load_full();
        let view = self.store.message(response).await?.ok_or(Unassigned::Unknown(response))?;
        if !view.ambiguous {
            return Err(match view.metadata.in_reply_to {
                Some(known) => impossible(format!("The response answers the request {known} already.")),
                None => impossible("The message is not an ambiguous response; only those can be assigned."),
            });
        }
        self.store.message_key(request).await?.ok_or(Unassigned::Unknown(request))?;
        let sent = self.store.sent_requests_of(&view.metadata.sender, request).await?;
        let sent = newest(sent).ok_or_else(|| {
            let sender = &view.metadata.sender;
            impossible(format!("The message {request} is not a request that was sent to the participant {sender}."))
        })?;
        let key = self.store.message_key(response).await?.ok_or(Unassigned::Unknown(response))?;
        let content = self.store.content(key).await?;
        let (metadata, bytes) = content
            .ok_or_else(|| impossible("The content of the response is no longer stored (retention.bodies_days)."))?;
        // Parsed again for its identity, by which duplicates among the request's answers are recognized.
        let format = Format::of_media_type(&metadata.media_type).unwrap_or_default();
        let identity = offload(bytes.len(), || {
            let tree = read(bytes.clone(), format, metadata.version, None).ok()?;
            Some(Message::read(tree, metadata.version, None).ok()?.identity())
        });
        let answer = NewMessage {
            metadata: (*metadata).clone(),
            state: MessageState::Accepted,
            bytes,
            outcome: None,
            identity: identity.unwrap_or_default(),
            deliveries: Vec::new(),
            answer: None,
            closes: None,
            further: None,
            assigns: Some((key, response)),
            releases_request: false,
        };
        match self.store_response(answer, *sent, &rules, IntakeSlot::default()).await? {
            Acceptance::New { .. } | Acceptance::Duplicate { .. } => Ok(()),
            Acceptance::Conflict { .. } => Err(impossible("Somebody else has just assigned the response.")),
        }
    }
}

fn impossible(text: impl Into<String>) -> Unassigned {
    Unassigned::Impossible(text.into())
}
