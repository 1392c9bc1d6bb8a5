//! One message many times over AMQP: processed once, and every copy is answered alike (MSG-61, MSG-62).

use std::collections::BTreeSet;

use serde_json::json;

use crate::amqp_faults::{LATER, Queues, as_reply, ids_at, ids_of, listed};
use crate::harness::amqp::Taken;
use crate::harness::script::answer_to;
use crate::harness::{Answer, Broker, Gate, Party, Peer, Props, Reply, Sample, wait_until};

const COPIES: usize = 1000;
const LATE_COPIES: usize = 10;

fn correlations(copies: std::ops::Range<usize>) -> BTreeSet<String> {
    copies.map(|number| format!("copy-{number}")).collect()
}

async fn publish(queues: &Queues, message: &Sample, reply_to: &str, copies: std::ops::Range<usize>) {
    let count = copies.len();
    let props = |correlation: &String| Props::json().reply_to(reply_to).correlation_id(correlation);
    let correlations = correlations(copies);
    let all = correlations.iter().map(|correlation| (message.bytes(), props(correlation)));
    assert_eq!(queues.client.publish_many("", &queues.inbound, all).await, count);
}

/// Each copy has one answer with its own correlation, and all are the same bytes.
#[track_caller]
fn assert_answers(answers: &[Taken], copies: std::ops::Range<usize>, message: &Sample) {
    let found: BTreeSet<_> = answers.iter().map(|answer| answer.correlation_id().unwrap().to_owned()).collect();
    assert_eq!(found, correlations(copies), "not each copy was answered");
    assert_eq!(answers.len(), found.len(), "a copy was answered twice");
    assert!(answers.iter().all(|answer| answer.body == answers[0].body), "answers differ");
    assert_eq!(as_reply(&answers[0]).response_identifier(), Some(message.header_id()));
    assert_eq!(as_reply(&answers[0]).response_code().as_deref(), Some("ok"));
}

#[tokio::test]
async fn a_thousand_copies_at_once_are_one_message_and_each_gets_the_same_answer() {
    let Some(broker) = Broker::shared().await else { return };
    let queues = Queues::on(&broker).await;
    let gate = Gate::closed();
    let lab = Peer::answering(Answer::Ok.behind(&gate)).await;
    let node = queues.config().participant(Party::new("lab").at(&lab)).start().await;
    let (message, mine) = (Sample::new().addressed_to("lab"), queues.replies().await);

    publish(&queues, &message, &mine, 0..COPIES).await;
    queues.wait_until_taken(&node).await;
    gate.open();

    let answers = queues.client.take(&mine, COPIES, LATER).await;
    assert_answers(&answers, 0..COPIES, &message);
    publish(&queues, &message, &mine, COPIES..COPIES + LATE_COPIES).await;
    let late = queues.client.take(&mine, LATE_COPIES, LATER).await;
    assert_answers(&late, COPIES..COPIES + LATE_COPIES, &message);
    assert_eq!(late[0].body, answers[0].body);
    assert_eq!(ids_at(&lab), [message.header_id()]);
    assert_eq!(listed(&node, "messages?sender=sender&state=accepted").await.len(), 1);
    assert_eq!(listed(&node, "deliveries?participant=lab").await.len(), 1);
    assert_eq!(listed(&node, "messages?sender=lab").await.len(), 1, "one answer was kept");
}

#[tokio::test]
async fn a_thousand_copies_for_a_receiver_on_amqp_reach_it_once_and_each_gets_its_answer() {
    let Some(broker) = Broker::shared().await else { return };
    let queues = Queues::on(&broker).await;
    let (queue, remote) = queues.receiver("remote", &[]).await;
    let node = queues.config().participant(remote).start().await;
    let (message, mine) = (Sample::new().addressed_to("remote"), queues.replies().await);

    publish(&queues, &message, &mine, 0..COPIES).await;
    let asked = queues.client.take(&queue, 1, LATER).await;
    queues.wait_until_taken(&node).await;
    assert_eq!(ids_of(&asked), [message.header_id()]);
    let props = Props::json().correlation_id(asked[0].correlation_id().unwrap());
    let answer = answer_to(&asked[0].body, "ok");
    assert!(queues.client.publish("", asked[0].reply_to().unwrap(), &answer, props).await);

    let answers = queues.client.take(&mine, COPIES, LATER).await;
    assert_answers(&answers, 0..COPIES, &message);
    assert_eq!(answers[0].body, answer);
    publish(&queues, &message, &mine, COPIES..COPIES + LATE_COPIES).await;
    let late = queues.client.take(&mine, LATE_COPIES, LATER).await;
    assert_answers(&late, COPIES..COPIES + LATE_COPIES, &message);
    assert_eq!(queues.client.depth(&queue).await, Some(0), "the receiver was asked twice");
    wait_until(LATER, "the delivery is answered", async || {
        listed(&node, "deliveries?participant=remote").await.iter().map(|item| &item["state"]).eq([&json!("answered")])
    })
    .await;
    assert_eq!(listed(&node, "messages?sender=sender&state=accepted").await.len(), 1);
}

async fn ask(queues: &Queues, message: &Sample) -> Reply {
    let answer = queues.client.request("", &queues.inbound, &message.bytes(), Props::json(), LATER).await;
    as_reply(&answer.expect("an answer"))
}

#[tokio::test]
async fn an_identity_that_was_used_for_other_content_is_refused_kept_and_answered() {
    let Some(broker) = Broker::shared().await else { return };
    let queues = Queues::on(&broker).await;
    let lab = Peer::ok().await;
    let node = queues.config().participant(Party::new("lab").at(&lab)).start().await;
    let first = Sample::new().addressed_to("lab");
    let other = first.clone().about("somebody else");
    assert_eq!(ask(&queues, &first).await.response_code().as_deref(), Some("ok"));

    let refusal = ask(&queues, &other).await;

    assert_eq!(refusal.response_code().as_deref(), Some("fatal-error"));
    assert_eq!(refusal.response_identifier(), Some(other.header_id()));
    let over_http = node.post(other.bytes()).await.expect_status(409);
    assert_eq!((refusal.faults(), refusal.issue_codes()), (over_http.faults(), over_http.issue_codes()));
    assert_eq!(refusal.faults(), ["SEND_REUSED_IDENTITY"]);
    let kept = listed(&node, "messages?state=refused&fault=SEND_REUSED_IDENTITY").await;
    let content = format!("/admin/v1/messages/{}/content", kept.last().unwrap()["id"].as_str().unwrap());
    assert_eq!(node.get(&content).await.body, other.bytes());
    queues.wait_until_taken(&node).await;
    assert_eq!(ids_at(&lab), [first.header_id()]);
}
