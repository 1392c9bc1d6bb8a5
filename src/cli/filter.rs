//! The filters of lists and replays as command-line options; a row must satisfy all of them.

use super::time;
use crate::delivery::{DeliveryState, MessageState};
use crate::store::view::{DeliveryFilter, MessageFilter};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use uuid::Uuid;

/// The fields of `MessageFilter`.
#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
#[command(next_help_heading = "Filter of messages")]
pub struct MessageFlags {
    /// Emberpost's message id
    #[arg(long, value_name = "ID")]
    pub id: Option<Uuid>,
    /// MessageHeader.id
    #[arg(long, value_name = "ID")]
    pub header_id: Option<String>,
    /// Bundle.id
    #[arg(long, value_name = "ID")]
    pub bundle_id: Option<String>,
    /// Bundle.identifier: system|value, or a value
    #[arg(long, value_name = "IDENTIFIER")]
    pub bundle_identifier: Option<String>,
    /// Event: system|code, a code, or a URI
    #[arg(long)]
    pub event: Option<String>,
    /// Source address
    #[arg(long, value_name = "ADDRESS")]
    pub source: Option<String>,
    /// Destination address
    #[arg(long, value_name = "ADDRESS")]
    pub destination: Option<String>,
    /// Participant that sent it
    #[arg(long, value_name = "PARTICIPANT")]
    pub sender: Option<String>,
    /// State of the message
    #[arg(long, value_parser = message_state())]
    pub state: Option<MessageState>,
    /// Only responses with this code
    #[arg(long, value_name = "CODE", value_parser = ["ok", "transient-error", "fatal-error"])]
    pub response_code: Option<String>,
    /// Only responses that match several requests and are not assigned yet; false: only other messages
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub ambiguous: Option<bool>,
    /// Only responses that came after the first answer to their request; false: only other messages
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub further: Option<bool>,
    /// Received at or after: a time (2026-03-01T00:00:00Z), a date (UTC), or a duration before now (2h, 3d)
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    pub since: Option<String>,
    /// Received before; a time, date, or duration as in --since
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    pub until: Option<String>,
    /// Fault code of the outcome, such as SEND_STRUCTURE
    #[arg(long, value_name = "CODE")]
    pub fault: Option<String>,
    /// Issue code of the outcome, such as not-found
    #[arg(long, value_name = "CODE")]
    pub issue: Option<String>,
    /// Rule of the outcome, such as MSG-04
    #[arg(long)]
    pub rule: Option<String>,
}

impl MessageFlags {
    pub fn filter(&self) -> MessageFilter {
        let flags = self.clone();
        MessageFilter {
            id: flags.id,
            header_id: flags.header_id,
            bundle_id: flags.bundle_id,
            bundle_identifier: flags.bundle_identifier,
            event: flags.event,
            source: flags.source,
            destination: flags.destination,
            sender: flags.sender,
            state: flags.state,
            response_code: flags.response_code,
            ambiguous: flags.ambiguous,
            further: flags.further,
            since: flags.since,
            until: flags.until,
            fault: flags.fault,
            issue: flags.issue,
            rule: flags.rule,
            for_replay: false,
        }
    }
}

/// The fields of `DeliveryFilter`.
#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
#[command(next_help_heading = "Filter of deliveries")]
pub struct DeliveryFlags {
    /// Delivery id
    #[arg(long, value_name = "ID")]
    pub id: Option<Uuid>,
    /// Emberpost's message id
    #[arg(long, value_name = "ID")]
    pub message: Option<Uuid>,
    /// Participant that receives it
    #[arg(long)]
    pub participant: Option<String>,
    /// State of the delivery
    #[arg(long, value_parser = delivery_state())]
    pub state: Option<DeliveryState>,
    /// Event: system|code, a code, or a URI
    #[arg(long)]
    pub event: Option<String>,
    /// Fault code, such as RECV_REFUSED
    #[arg(long, value_name = "CODE")]
    pub fault: Option<String>,
    /// Message received at or after: a time (2026-03-01T00:00:00Z), a date (UTC), or a duration before now (2h, 3d)
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    pub since: Option<String>,
    /// Message received before; a time, date, or duration as in --since
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    pub until: Option<String>,
}

impl DeliveryFlags {
    pub fn filter(&self) -> DeliveryFilter {
        let flags = self.clone();
        DeliveryFilter {
            id: flags.id,
            message: flags.message,
            participant: flags.participant,
            state: flags.state,
            event: flags.event,
            fault: flags.fault,
            since: flags.since,
            until: flags.until,
        }
    }
}

fn message_state() -> impl TypedValueParser<Value = MessageState> {
    PossibleValuesParser::new(["accepted", "refused"])
        .map(|word| if word == "refused" { MessageState::Refused } else { MessageState::Accepted })
}

fn delivery_state() -> impl TypedValueParser<Value = DeliveryState> {
    PossibleValuesParser::new(DeliveryState::ALL.map(DeliveryState::as_str))
        .try_map(|word| DeliveryState::parse(&word).ok_or("unknown state"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use serde_json::{Value, json};

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        flags: MessageFlags,
    }

    #[derive(clap::Parser)]
    struct DeliveryLine {
        #[command(flatten)]
        flags: DeliveryFlags,
    }

    #[test]
    fn every_field_of_both_filters_has_a_flag_of_its_name() {
        fn check<L: clap::CommandFactory>(filter: &Value) {
            let command = L::command();
            for name in filter.as_object().expect("an object").keys() {
                let flag = name.replace('_', "-");
                assert!(command.get_arguments().any(|arg| arg.get_long() == Some(&flag)), "{name} has no flag");
            }
        }
        check::<Line>(&json!(MessageFilter::default()));
        check::<DeliveryLine>(&json!(DeliveryFilter::default()));
    }

    #[test]
    fn flags_become_the_filter() {
        let line = Line::try_parse_from([
            "x",
            "--state",
            "refused",
            "--rule",
            "MSG-04",
            "--since",
            "2026-03-01T08:00:00+01:00",
        ]);
        let filter = json!(line.map_err(|error| error.to_string()).expect("flags").flags.filter());
        assert_eq!((&filter["state"], &filter["rule"]), (&json!("refused"), &json!("MSG-04")));
        assert_eq!(filter["since"], "2026-03-01T08:00:00+01:00");
    }
}
