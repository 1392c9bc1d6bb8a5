//! Faults: the codes of `urn:emberpost:fault` in one table, with cause and remedy.
//!
//! `SEND_`: the sender must act. `ROUTE_`: Emberpost or its operator. `RECV_`: the receiver.

use fhir::Cause;
use serde::{Deserialize, Serialize};

macro_rules! faults {
    ($($name:ident $code:literal $cause:literal $remedy:literal;)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Fault { $(#[doc = $cause] #[serde(rename = $code)] $name,)* }

        impl Fault {
            pub const ALL: &'static [Fault] = &[$(Fault::$name),*];
            pub fn code(self) -> &'static str { match self { $(Fault::$name => $code),* } }
            pub fn cause(self) -> &'static str { match self { $(Fault::$name => $cause),* } }
            pub fn remedy(self) -> &'static str { match self { $(Fault::$name => $remedy),* } }
        }
    };
}

faults! {
    SendSyntax "SEND_SYNTAX" "The body is not JSON or XML, or breaks FHIR's rules for them" "Correct the text at the line and column given";
    SendDepth "SEND_DEPTH" "The body is nested more deeply than Emberpost supports" "Nest it at most 256 levels deep, objects and arrays counted alike";
    SendNotMessage "SEND_NOT_MESSAGE" "The body is FHIR, but not a message Bundle that begins with a MessageHeader" "Send one Bundle of type message";
    SendStructure "SEND_STRUCTURE" "The message breaks a rule of FHIR messaging" "Correct the element that the issue names";
    SendVersion "SEND_VERSION" "The FHIR version is unknown, contradictory, or not supported" "Send R4, R4B, or R5, and name it with the media type parameter fhirVersion";
    SendIdentity "SEND_IDENTITY" "The message has no identity, so duplicates could not be recognized" "Give the Bundle an id or identifier, or the MessageHeader an id";
    SendReused "SEND_REUSED_IDENTITY" "The identity was used before with other content" "Give each new message identities of its own";
    SendUnknownSource "SEND_UNKNOWN_SOURCE" "No participant owns the source address" "Use one of your own source addresses, or ask the operator to add this one";
    SendForeignSource "SEND_FOREIGN_SOURCE" "The source address belongs to another participant" "Use one of your own source addresses";
    SendCredential "SEND_CREDENTIAL" "The credential is missing or wrong" "Send Authorization: Bearer with the token that the operator gave you";
    SendForbiddenEvent "SEND_FORBIDDEN_EVENT" "The sender may not send this event" "Ask the operator to add the event to may_send";
    SendUnknownEvent "SEND_UNKNOWN_EVENT" "No definition names the event" "Use an event of GET [base]/MessageDefinition, or ask the operator to load its definition";
    SendDefinition "SEND_DEFINITION" "The message breaks the MessageDefinition of its event" "Correct what the definition named in the issue requires";
    SendUnknownDestination "SEND_UNKNOWN_DESTINATION" "No participant owns the destination, and no route matches" "Correct the destination, or ask the operator to add it";
    SendNotAsked "SEND_NOT_ASKED" "The response does not answer any request that was sent to its sender" "Answer with the identifier of the request, from the participant that received it";
    SendRequest "SEND_REQUEST" "The HTTP request is wrong: method, query, or headers" "Correct the request as the issue says";
    SendMediaType "SEND_MEDIA_TYPE" "The media type or content encoding is not supported" "Send application/fhir+json or application/fhir+xml, uncompressed, gzip, or zstd";
    SendTooLarge "SEND_TOO_LARGE" "The body is larger than server.body_limit_bytes" "Send a smaller message";
    SendLimit "SEND_LIMIT" "An element of the message is too large, or occurs too often" "Shorten the element that the issue names, or send several messages";
    SendTooFast "SEND_TOO_FAST" "More requests than allowed for one sender" "Wait for the time in Retry-After";
    RouteForbidden "ROUTE_FORBIDDEN" "The receiver may not receive this event" "The operator adds the event to may_receive, if it should";
    RouteFanOut "ROUTE_FAN_OUT" "An event of category consequence would go to more than one participant" "Send one message to each, or the operator lists the event in fan_out";
    RouteLoop "ROUTE_LOOP" "The message came through this router before" "The operator corrects the routes that form the loop";
    RouteBusy "ROUTE_BUSY" "The router is at its load limit" "Send again after Retry-After";
    RouteSearchLimit "ROUTE_SEARCH_LIMIT" "The search takes too long" "Narrow it, with since and until or with further filters";
    RouteNoStore "ROUTE_NO_STORE" "The store has too little space or cannot be reached" "The operator frees space; send again after Retry-After";
    RouteStopping "ROUTE_STOPPING" "The router is stopping or starting" "Send again after Retry-After";
    RouteNotBuilt "ROUTE_NOT_BUILT" "The feature is not built yet" "Use what the README lists as built";
    RouteClosed "ROUTE_CLOSED" "Without credentials the router serves direct loopback requests only" "The operator configures credentials";
    RoutePermission "ROUTE_PERMISSION" "The credential may not do this" "Ask the operator for the role";
    RouteNotFound "ROUTE_NOT_FOUND" "There is nothing at this address, or it is not yours" "Correct the address";
    RouteCustody "ROUTE_CUSTODY" "The message is stored and being delivered; not an error" "Poll the status URL later";
    RouteCredential "ROUTE_CREDENTIAL" "The receiver refuses the router's credential (401, 403, 407)" "The operator renews it; deliveries wait and are retried";
    RouteUrl "ROUTE_URL" "The receiver's URL is wrong (404)" "The operator corrects the participant's url; deliveries wait and are retried";
    RouteRedirect "ROUTE_REDIRECT" "The receiver answers with a redirect, which is never followed" "The operator configures the final url";
    RouteUnroutable "ROUTE_UNROUTABLE" "No queue is bound for the participant's exchange and routing key" "The operator corrects the channel, or binds a queue; deliveries are retried";
    RouteBroker "ROUTE_BROKER" "The broker did not accept the message: no such exchange, no permission, or no confirm in time" "The operator looks at the attempt's detail and at the broker; deliveries are retried";
    RouteConversion "ROUTE_CONVERSION" "The receiver requires another format (JSON, XML) or FHIR version, and the message cannot be converted without loss" "The sender sends the required format and version, or the operator corrects the participant's format, fhir_version or bridge_versions";
    RouteDiscarded "ROUTE_DISCARDED" "An operator discarded the delivery" "Ask the operator";
    RouteShortage "ROUTE_SHORTAGE" "The router has no descriptor, port, or memory left for another connection" "The operator raises the limit; deliveries continue by themselves, and no attempt is counted";
    RouteBodyDropped "ROUTE_BODY_DROPPED" "The content of the message is no longer stored, so it cannot be delivered; the receiver was not contacted" "The sender sends the message again; the operator raises retention.dead_letters_days";
    RouteCallback "ROUTE_CALLBACK" "The response-url is no longer an address of the participant that asked for the answer there; nothing was sent" "The operator adds the address to that participant again and retries the delivery, or discards it";
    RouteInternal "ROUTE_INTERNAL" "A defect of the router" "Report it with the message id";
    RecvUnreachable "RECV_UNREACHABLE" "The receiver cannot be reached" "The receiver starts its endpoint; deliveries are retried";
    RecvTimeout "RECV_TIMEOUT" "The receiver did not answer in time" "The receiver answers within attempt_timeout_seconds; deliveries are retried";
    RecvBusy "RECV_BUSY" "The receiver asks to retry later (408, 425, 429, 503)" "None; deliveries are retried";
    RecvQueueFull "RECV_QUEUE_FULL" "The broker refused the message for the receiver's queue, which is full" "The receiver empties its queue; deliveries are retried";
    RecvError "RECV_ERROR" "The receiver failed (5xx)" "The receiver repairs it; deliveries are retried";
    RecvBadAnswer "RECV_BAD_ANSWER" "The receiver's answer is a web page, an answer to another message, too long, or not HTTP" "The receiver answers with a message whose response.identifier is that of the request";
    RecvNotFhir "RECV_NOT_FHIR" "The receiver accepted the message (2xx) with a body that is neither an answer nor an OperationOutcome; a warning" "None; a receiver without an answer should return an empty body";
    RecvIssues "RECV_ISSUES" "The receiver accepted the message (2xx) and reported errors about it" "Read the issues, with the delivery or at the status URL; correct what they name";
    RecvAmbiguous "RECV_AMBIGUOUS" "The receiver's response matches more than one request" "The receiver answers with an identifier or destination that only one request has; the operator assigns the response";
    RecvRefused "RECV_REFUSED" "The receiver refused the message permanently" "Read the receiver's OperationOutcome; correct the message or the agreement";
    RecvAttempts "RECV_ATTEMPTS" "Every attempt that attempts_limit allows failed" "Send it again when the receiver works; each attempt's fault says what failed";
    RecvExpired "RECV_EXPIRED" "The message could not be delivered before it expired" "Send it again when the receiver is available";
}

impl From<Cause> for Fault {
    fn from(cause: Cause) -> Fault {
        match cause {
            Cause::Syntax => Fault::SendSyntax,
            Cause::Depth => Fault::SendDepth,
            Cause::NotMessage => Fault::SendNotMessage,
            Cause::Structure => Fault::SendStructure,
            Cause::Version => Fault::SendVersion,
            Cause::Limit => Fault::SendLimit,
            Cause::UnknownEvent => Fault::SendUnknownEvent,
            Cause::Definition => Fault::SendDefinition,
            Cause::Conversion => Fault::RouteConversion,
            Cause::Answer => Fault::RecvBadAnswer,
        }
    }
}

/// The table of `docs/faults.md`: every code, who must act, cause and remedy, in the order of `Fault::ALL`.
pub fn table_markdown() -> String {
    let mut table = String::from("| code | who acts | cause | remedy |\n|---|---|---|---|\n");
    for fault in Fault::ALL {
        let who = match fault.code().split('_').next() {
            Some("SEND") => "sender",
            Some("RECV") => "receiver",
            _ => "operator",
        };
        table.push_str(&format!("| `{}` | {who} | {} | {} |\n", fault.code(), fault.cause(), fault.remedy()));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_faults_lists_every_code_with_cause_and_remedy() {
        let page = include_str!("../docs/faults.md");
        assert!(page.ends_with(&table_markdown()), "docs/faults.md should end with:\n{}", table_markdown());
    }

    #[test]
    fn every_code_says_who_must_act() {
        for fault in Fault::ALL {
            assert!(["SEND_", "ROUTE_", "RECV_"].iter().any(|side| fault.code().starts_with(side)));
        }
    }
}
