//! An operator says whose an ambiguous response is.

use super::{Exchange, IntakeSlot};
use crate::delivery::{Acceptance, MessageState, NewMessage};
use crate::exchange::correlate::one;
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
    /// Not ambiguous, or not any more; a request that its sender never got; content that is gone.
    #[error("{0}")]
    Impossible(String),
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl Exchange {
    /// Ties a stored ambiguous response to one of the requests that were sent to its sender, and gives it to the
    /// requester as if it had named that request itself.
    pub async fn assign(&self, response: Uuid, request: Uuid) -> Result<(), Unassigned> {
        let rules = self.rules.load_full();
        let view = self.store.message(response).await?.ok_or(Unassigned::Unknown(response))?;
        if !view.ambiguous {
            return Err(match view.metadata.in_reply_to {
                Some(known) => impossible(format!("The response answers the request {known} already.")),
                None => impossible("The message is no ambiguous response; only those can be assigned."),
            });
        }
        self.store.message_key(request).await?.ok_or(Unassigned::Unknown(request))?;
        let asked = self.store.sent_requests_of(&view.metadata.sender, request).await?;
        let asked = one(asked).ok_or_else(|| {
            let sender = &view.metadata.sender;
            impossible(format!("The message {request} is no request that was sent to the participant {sender}."))
        })?;
        let key = self.store.message_key(response).await?.ok_or(Unassigned::Unknown(response))?;
        let content = self.store.content(key).await?;
        let (metadata, bytes) = content
            .ok_or_else(|| impossible("The content of the response is no longer kept (retention.bodies_days)."))?;
        // Read again for what it says, with which other answers to the request are compared.
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
        match self.close_with(answer, *asked, &rules, IntakeSlot::default()).await? {
            Acceptance::New { .. } | Acceptance::Duplicate { .. } => Ok(()),
            Acceptance::Conflict { .. } => Err(impossible("Somebody else has just assigned the response.")),
        }
    }
}

fn impossible(text: impl Into<String>) -> Unassigned {
    Unassigned::Impossible(text.into())
}
