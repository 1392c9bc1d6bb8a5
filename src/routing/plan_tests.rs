//! Planning by example and with random tables of destinations.

use super::*;
use crate::routing::fixture::owner;
use crate::routing::{Channel, Order};
use bytes::Bytes;
use fhir::json;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// A message, of which the tests set the header.
const EMPTY: &[u8] =
    br#"{"resourceType":"Bundle","type":"message","entry":[{"resource":{"resourceType":"MessageHeader"}}]}"#;
const BASE: &str = "http://hub.org/fhir";

fn participant(id: &str, may_receive: &str) -> Participant {
    Participant {
        channel: Some(Channel::Mailbox),
        may_receive: vec![may_receive.to_owned()],
        ..owner(id, &[&format!("https://{id}.org/fhir"), &format!("urn:id|{id}")])
    }
}

/// `lab`, `ward` and `registry` take everything, `shy` one event only, `mute` has no channel.
fn table(routes: Vec<Route>) -> Table {
    let mut participants: Vec<_> = ["lab", "ward", "registry"].map(|id| participant(id, "*")).into();
    participants.push(participant("shy", "urn:e|other"));
    participants.push(Participant { channel: None, ..participant("mute", "*") });
    Table::build(participants, routes, vec!["urn:e|spread".into()], BASE.into()).unwrap()
}

fn route(destination: Option<&str>, to: &[&str]) -> Route {
    let to = to.iter().map(|id| id.to_string()).collect();
    Route { destination: destination.map(str::to_owned), to, ..Route::default() }
}

fn message_to(destinations: Vec<Destination>) -> Message {
    let mut message = Message::read(json::parse(Bytes::from_static(EMPTY)).unwrap(), None, None).unwrap();
    message.header.event = Some(Event::Coding { system: Some("urn:e".into()), code: "link".into() });
    message.header.source_endpoint = Some("https://lab.org/fhir".into());
    message.header.destinations = destinations;
    message
}

fn to(endpoints: &[&str]) -> Message {
    let destination = |endpoint: &&str| Destination { endpoint: Some((*endpoint).into()), ..Destination::default() };
    message_to(endpoints.iter().map(destination).collect())
}

fn ids(plan: &Plan) -> Vec<&str> {
    plan.receivers.iter().map(|receiver| &*receiver.participant.id).collect()
}

fn refusals(result: Result<Plan, Vec<Issue>>) -> Vec<(IssueCode, Fault, String)> {
    let issues = result.expect_err("refused");
    issues.into_iter().map(|issue| (issue.code, issue.cause, issue.expression.unwrap_or_default())).collect()
}

#[test]
fn each_destination_goes_to_its_owner_once() {
    let message = to(&["https://ward.org/fhir/", "HTTPS://lab.org:443/fhir/$process-message", "https://ward.org/fhir"]);
    let plan = plan(&message, "lab", None, &table(vec![])).unwrap();
    assert_eq!(ids(&plan), ["ward", "lab"]);
    assert_eq!(plan.receivers[0].destination.as_deref(), Some("https://ward.org/fhir/"));
    assert!(!plan.to_self);
    assert_eq!(
        plan.reasons,
        [
            "destination[0]: participant ward owns the address",
            "destination[1]: participant lab owns the address",
            "destination[2]: participant ward owns the address, and receives it already: one delivery",
        ]
    );
}

#[test]
fn an_owner_goes_before_every_route() {
    let plan = plan(&to(&["https://ward.org/fhir"]), "lab", None, &table(vec![route(None, &["registry"])])).unwrap();
    assert_eq!(ids(&plan), ["ward"]);
}

#[test]
fn at_our_own_base_the_target_decides_then_the_routes_then_we() {
    let to_base = |target: &str| {
        let endpoint = Some(format!("{BASE}/$process-message").into());
        message_to(vec![Destination { endpoint, targets: ["Device/1", target].map(Into::into).into() }])
    };
    let taken = table(vec![route(Some("urn:unit|*"), &["registry"])]);
    let by_target = plan(&to_base("urn:id|ward"), "lab", None, &taken).unwrap();
    assert_eq!((ids(&by_target), by_target.to_self), (vec!["ward"], false));
    assert_eq!(by_target.receivers[0].destination.as_deref(), Some("urn:id|ward"));
    let by_route = plan(&to_base("urn:unit|7"), "lab", None, &taken).unwrap();
    assert_eq!((ids(&by_route), by_route.to_self), (vec!["registry"], false));
    let ours = plan(&to_base("urn:none|1"), "lab", None, &taken).unwrap();
    assert_eq!((ids(&ours).len(), ours.to_self), (0, true));
}

#[test]
fn a_destination_without_endpoint_goes_by_its_target_or_counts_as_none() {
    let targeted = |target: &str| message_to(vec![Destination { endpoint: None, targets: [target.into()].into() }]);
    let found = plan(&targeted("urn:id|ward"), "lab", None, &table(vec![])).unwrap();
    assert_eq!(ids(&found), ["ward"]);
    let routed = plan(&targeted("urn:none|1"), "lab", None, &table(vec![route(None, &["registry"])])).unwrap();
    assert_eq!(ids(&routed), ["registry"]);
    assert_eq!(routed.receivers[0].destination, None);
}

#[test]
fn the_first_route_whose_conditions_hold_takes_the_destination() {
    let routes = vec![
        Route { event: Some("other".into()), ..route(None, &["ward"]) },
        Route { source: Some("ward".into()), ..route(None, &["ward"]) },
        route(Some("https://else.org/*"), &["ward"]),
        Route { event: Some("urn:e|link".into()), source: Some("lab".into()), ..route(None, &["registry", "lab"]) },
        route(None, &["ward"]),
    ];
    let plan = plan(&to(&["https://nobody.org"]), "lab", None, &table(routes)).unwrap();
    assert_eq!(ids(&plan), ["registry", "lab"]);
    assert_eq!(plan.receivers[1].destination.as_deref(), Some("https://nobody.org"));
    assert_eq!(plan.reasons[0], "destination[0]: participant registry is named by route 4");
}

#[test]
fn a_message_without_destination_takes_only_routes_without_one() {
    let routes = vec![route(Some("*"), &["ward"]), route(None, &["registry"])];
    for message in [to(&[]), to(&[""])] {
        let plan = plan(&message, "lab", None, &table(routes.clone())).unwrap();
        assert_eq!(ids(&plan), ["registry"]);
        assert_eq!(plan.receivers[0].destination, None);
    }
    let refused = refusals(plan(&to(&[]), "lab", None, &table(vec![route(Some("*"), &["ward"])])));
    assert_eq!(refused, [(IssueCode::NotFound, Fault::SendUnknownDestination, DESTINATION.to_owned())]);
}

#[test]
fn alone_emberpost_receives_what_names_it_or_nobody_and_refuses_the_rest() {
    let alone = Table::build(vec![], vec![], vec![], BASE.into()).unwrap();
    for message in [to(&[]), to(&[BASE]), to(&["http://HUB.org:80/fhir/$process-message"])] {
        assert!(plan(&message, "anyone", None, &alone).unwrap().to_self);
    }
    let refused = refusals(plan(&to(&[BASE, "https://lab.org"]), "anyone", None, &alone));
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].2, format!("{DESTINATION}[1].endpoint"));
}

#[test]
fn every_destination_that_cannot_be_served_is_named() {
    let message = to(&["urn:none", "https://ward.org/fhir", "https://shy.org/fhir", "https://mute.org/fhir"]);
    let expected = [
        (IssueCode::NotFound, Fault::SendUnknownDestination, format!("{DESTINATION}[0].endpoint")),
        (IssueCode::Forbidden, Fault::RouteForbidden, format!("{DESTINATION}[2].endpoint")),
        (IssueCode::NotFound, Fault::SendUnknownDestination, format!("{DESTINATION}[3].endpoint")),
    ];
    assert_eq!(refusals(plan(&message, "lab", None, &table(vec![]))), expected);
    let issues = plan(&message, "lab", None, &table(vec![])).unwrap_err();
    assert!(issues[2].diagnostics.contains("mute has no channel"), "{}", issues[2].diagnostics);
    assert_eq!(issues[0].rule.as_deref(), Some("MSG-22"));
}

#[test]
fn a_message_without_event_goes_only_where_every_event_may() {
    let mut message = to(&["https://ward.org/fhir", "https://shy.org/fhir"]);
    message.header.event = None;
    let refused = refusals(plan(&message, "lab", None, &table(vec![])));
    assert_eq!(refused, [(IssueCode::Forbidden, Fault::RouteForbidden, format!("{DESTINATION}[1].endpoint"))]);
}

#[test]
fn a_message_of_consequence_has_one_receiver_unless_its_event_may_spread() {
    let two = to(&["https://ward.org/fhir", "https://registry.org/fhir"]);
    let consequence = Some(Category::Consequence);
    let refused = plan(&two, "lab", consequence, &table(vec![])).unwrap_err();
    assert_eq!((refused[0].code, refused[0].cause), (IssueCode::BusinessRule, Fault::RouteFanOut));
    assert_eq!(refused[0].rule.as_deref(), Some("MSG-46"));
    assert!(plan(&to(&["https://ward.org/fhir", BASE]), "lab", consequence, &table(vec![])).is_err());
    assert!(plan(&to(&["https://ward.org/fhir"; 2]), "lab", consequence, &table(vec![])).is_ok());
    for category in [None, Some(Category::Currency), Some(Category::Notification)] {
        assert_eq!(plan(&two, "lab", category, &table(vec![])).unwrap().receivers.len(), 2);
    }
    let mut spread = two;
    spread.header.event = Some(Event::Coding { system: Some("urn:e".into()), code: "spread".into() });
    assert_eq!(plan(&spread, "lab", consequence, &table(vec![])).unwrap().receivers.len(), 2);
}

#[test]
fn a_receiver_that_asks_for_no_order_has_lane_zero() {
    let unordered = Participant { order: Order::None, ..participant("lab", "*") };
    let table = Table::build(vec![unordered, participant("ward", "*")], vec![], vec![], BASE.into()).unwrap();
    let message = to(&["https://lab.org/fhir", "https://ward.org/fhir"]);
    let plan = plan(&message, "lab", None, &table).unwrap();
    assert_eq!(plan.receivers[0].lane, 0);
    assert_ne!(plan.receivers[1].lane, 0);
}

/// Destinations that the table knows, refuses or routes.
fn endpoints() -> impl Strategy<Value = Vec<&'static str>> {
    let known = [
        "https://lab.org/fhir",
        "https://ward.org/fhir/",
        "HTTPS://WARD.org/fhir",
        "urn:id|registry",
        "https://shy.org/fhir",
        "https://mute.org/fhir",
        "https://nobody.org/a",
        "https://routed.org/1",
        "https://routed.org/2",
        BASE,
    ];
    prop::collection::vec(prop::sample::select(known.to_vec()), 0..7)
}

fn routed() -> Table {
    table(vec![route(Some("https://routed.org/1"), &["ward", "lab"]), route(Some("https://routed.org/*"), &["shy"])])
}

proptest! {
    #[test]
    fn the_order_of_destinations_changes_no_receiver(
        (one, other) in endpoints().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
    ) {
        let receivers = |endpoints: &[&str]| {
            plan(&to(endpoints), "lab", None, &routed()).map(|plan| {
                let set: BTreeSet<String> = ids(&plan).into_iter().map(str::to_owned).collect();
                (set, plan.to_self)
            }).map_err(|issues| issues.len())
        };
        prop_assert_eq!(receivers(&one), receivers(&other));
    }

    #[test]
    fn nobody_receives_twice(endpoints in endpoints()) {
        if let Ok(plan) = plan(&to(&endpoints), "lab", None, &routed()) {
            let set: BTreeSet<&str> = ids(&plan).into_iter().collect();
            prop_assert_eq!(set.len(), plan.receivers.len());
        }
    }

    #[test]
    fn a_refusal_names_every_bad_destination_and_no_good_one(endpoints in endpoints()) {
        prop_assume!(!endpoints.is_empty());
        let bad = ["https://shy.org/fhir", "https://mute.org/fhir", "https://nobody.org/a", "https://routed.org/2"];
        let expected: Vec<String> = (0..endpoints.len()).filter(|index| bad.contains(&endpoints[*index]))
            .map(|index| format!("{DESTINATION}[{index}].endpoint")).collect();
        let named = match plan(&to(&endpoints), "lab", None, &routed()) {
            Ok(_) => Vec::new(),
            Err(issues) => issues.into_iter().filter_map(|issue| issue.expression).collect(),
        };
        prop_assert_eq!(named, expected);
    }
}
