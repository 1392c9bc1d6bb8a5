//! A bad network between Emberpost and its broker: nothing is lost, nothing processed twice, order holds.

use crate::amqp_hub::{Hub, LONG, accepted, attempts, check_far_end, delivered, health, messages, until_amqp_is};
use crate::harness::{Amqp, Broker, NodeConfig, Party, Peer, Props, Sample, free_address, wait_until};

const SOURCES: usize = 4;

#[tokio::test]
async fn a_cut_in_the_middle_of_a_publish_loses_nothing_and_counts_no_attempt() {
    let Some(hub) = Hub::new().await else { return };
    let node = hub.config().start().await;
    let sent: Vec<_> = messages(60, SOURCES).into_iter().map(|message| message.padded(20_000)).collect();
    const CUTS: usize = 3;

    hub.proxy.cut_after_to_broker(150_000);
    hub.send(&sent).await;
    for cut in 1..=CUTS {
        // Both connections of the router are cut, and made again.
        wait_until(LONG, "the router is back", async || hub.proxy.connections() >= 2 + 2 * cut).await;
        if cut < CUTS {
            hub.proxy.cut_after_to_broker(150_000 + 7_000 * cut as u64);
        }
    }

    let repeats = hub.count(&node, &sent).await;
    assert!(repeats <= CUTS * SOURCES, "{repeats} came twice, and one at most in each lane was unconfirmed");
    assert!(attempts(&node, "lab").await.iter().all(|attempts| *attempts == 1), "an attempt was counted");
}

#[tokio::test]
async fn a_message_whose_confirm_was_lost_is_published_again_under_the_same_id() {
    let Some(hub) = Hub::new().await else { return };
    let node = hub.config().start().await;
    // The first opens the channel that the second is published on.
    let sent = messages(6, 1);
    node.post(sent[0].bytes()).await.expect_status(202);
    wait_until(LONG, "the first is confirmed", async || delivered(&node, "lab").await == 1).await;

    hub.proxy.swallow_from_broker(true);
    for message in &sent[1..] {
        node.post(message.bytes()).await.expect_status(202);
    }
    wait_until(LONG, "the second is in the queue", async || hub.direct.depth(&hub.lab).await == Some(2)).await;
    assert_eq!(delivered(&node, "lab").await, 1);
    hub.proxy.cut();
    hub.proxy.swallow_from_broker(false);

    let came = hub.delivered(&node, &sent).await;
    assert_eq!(check_far_end(&sent, &came), 1);
    assert_eq!(came[2].properties.message_id().as_ref().unwrap().as_str(), sent[1].header_id());
    assert_eq!((&came[2].body, came[2].correlation_id()), (&came[1].body, came[1].correlation_id()));
    assert_eq!(accepted(&node).await.len(), sent.len());
    assert!(attempts(&node, "lab").await.iter().all(|attempts| *attempts == 1), "an attempt was counted");
}

#[tokio::test]
async fn a_message_whose_ack_was_lost_comes_again_and_is_one_delivery_and_one_answer() {
    let Some(hub) = Hub::new().await else { return };
    let peer = Peer::ok().await;
    let node = hub.bare("").participant(Party::new("lab").at(&peer)).start().await;
    let replies = Broker::name("replies");
    hub.direct.declare_quorum(&replies).await;
    let sent = messages(20, SOURCES);

    hub.proxy.swallow_to_broker(true);
    let asking = |message: &Sample| Props::json().reply_to(&replies).correlation_id(&message.header_id());
    let all = sent.iter().map(|message| (message.bytes(), asking(message)));
    assert_eq!(hub.direct.publish_many("", &hub.inbound, all).await, sent.len());
    wait_until(LONG, "all are kept", async || accepted(&node).await.len() == sent.len()).await;
    peer.wait_for(sent.len(), LONG).await;
    assert_eq!(hub.direct.depth(&replies).await, Some(0));
    hub.proxy.cut();
    hub.proxy.swallow_to_broker(false);

    let answers = hub.direct.take(&replies, sent.len(), LONG).await;
    let consumed = async || node.log().matches("result=\"repeat\"").count() >= sent.len();
    let settled = async || health(&node).await.1["amqp_links"]["in"]["queues"][&hub.inbound]["unacked"] == 0;
    wait_until(LONG, "all came again", async || consumed().await && settled().await).await;
    let mut correlations: Vec<_> = answers.iter().map(|answer| answer.correlation_id().unwrap().to_owned()).collect();
    correlations.sort();
    assert_eq!(correlations, accepted(&node).await);
    assert_eq!(correlations, sent.iter().map(Sample::header_id).collect::<Vec<_>>());
    assert_eq!((peer.count(), delivered(&node, "lab").await), (sent.len(), sent.len()));
    assert_eq!(hub.direct.depth(&replies).await, Some(0));
    hub.proxy.cut();
    wait_until(LONG, "nothing is left", async || hub.direct.depth(&hub.inbound).await == Some(0)).await;
}

#[tokio::test]
async fn cuts_while_hundreds_pass_leave_counts_and_order_as_they_were() {
    let Some(hub) = Hub::new().await else { return };
    let node = hub.config().start().await;
    let sent = messages(400, 8);
    hub.send(&sent).await;
    for part in 1..=5 {
        let enough = async || hub.direct.depth(&hub.lab).await.unwrap() >= part * 60;
        wait_until(LONG, "some have passed", enough).await;
        hub.proxy.cut();
    }
    let repeats = hub.count(&node, &sent).await;
    assert!(repeats <= 5 * 8, "{repeats} came twice, and one at most in each lane was unconfirmed");
}

#[tokio::test]
async fn cuts_while_messages_are_being_kept_leave_none_behind() {
    let Some(hub) = Hub::new().await else { return };
    let node = hub.config().start().await;
    let sent: Vec<_> = messages(400, 8).into_iter().map(|message| message.padded(5_000)).collect();
    for part in sent.chunks(80) {
        let before = hub.proxy.bytes_from_broker();
        hub.send(part).await;
        wait_until(LONG, "some have come", async || hub.proxy.bytes_from_broker() > before + 20_000).await;
        hub.proxy.cut();
    }
    let repeats = hub.count(&node, &sent).await;
    assert!(repeats <= 5 * 8, "{repeats} came twice, and one at most in each lane was unconfirmed");
}

#[tokio::test]
async fn a_half_open_connection_is_noticed_by_its_heartbeat_and_made_anew() {
    let Some(hub) = Hub::new().await else { return };
    let node = hub.bare("?heartbeat=1").participant(crate::amqp_hub::party("lab", &hub.exchange)).start().await;
    let sent = messages(20, SOURCES);
    hub.send(&sent[..10]).await;
    wait_until(LONG, "the first half is there", async || delivered(&node, "lab").await == 10).await;

    // The broker hears its heartbeats, so it is not the broker that ends the connections.
    hub.proxy.swallow_from_broker(true);
    hub.send(&sent[10..]).await;
    let away = until_amqp_is(&node, "away").await;
    assert_eq!(away["status"], "degraded");
    hub.proxy.swallow_from_broker(false);

    until_amqp_is(&node, "ready").await;
    assert_eq!(hub.count(&node, &sent).await, 0);
}

#[tokio::test]
async fn a_network_that_swallows_everything_is_noticed_too() {
    let Some(hub) = Hub::new().await else { return };
    let node = hub.bare("?heartbeat=1").participant(crate::amqp_hub::party("lab", &hub.exchange)).start().await;
    hub.proxy.swallow_from_broker(true);
    hub.proxy.swallow_to_broker(true);
    let sent = messages(10, SOURCES);
    hub.send(&sent).await;
    until_amqp_is(&node, "away").await;
    hub.proxy.cut();
    hub.proxy.swallow_from_broker(false);
    hub.proxy.swallow_to_broker(false);
    assert_eq!(hub.count(&node, &sent).await, 0);
    until_amqp_is(&node, "ready").await;
}

#[tokio::test]
async fn of_several_brokers_the_first_that_takes_the_connection_is_used() {
    let Some(hub) = Hub::new().await else { return };
    let nobody = format!("amqp://guest:guest@{}/%2f", free_address());
    let urls = format!("url = [\"{nobody}\", \"{}\"]", hub.proxy.url());
    let node = hub.config().with_amqp(&urls).start().await;
    let (_, body) = health(&node).await;
    assert_eq!(body["amqp_links"]["out"]["broker"], format!("amqp://127.0.0.1:{}/", hub.proxy.port()));
    let sent = messages(10, SOURCES);
    hub.send(&sent).await;
    assert_eq!(hub.count(&node, &sent).await, 0);
}

#[tokio::test]
async fn a_wrong_password_is_told_in_a_sentence_that_does_not_hold_it() {
    let Some(broker) = Broker::shared().await else { return };
    let url = broker.url().replace("guest:guest", "guest:s3cret-word");
    let [inbound, answers] = ["inbound", "answers"].map(Broker::name);
    let config = NodeConfig::with_sender().amqp(&url, &inbound, &answers).variable("EMBERPOST_LOG", "trace");
    let mut node = config.start_unready().await;
    let told = async || health(&node).await.1["amqp_links"]["in"]["why"].is_string();
    wait_until(LONG, "the reason is known", told).await;

    let (status, body) = health(&node).await;
    let why = body["amqp_links"]["in"]["why"].as_str().unwrap().to_owned();
    assert_eq!((status, &body["amqp"]), (503, &serde_json::json!("away")));
    assert!(why.contains("cannot connect to amqp://127.0.0.1") && why.contains("ACCESS_REFUSED"), "{why}");
    wait_until(LONG, "it is logged", async || node.log().contains("ACCESS_REFUSED")).await;
    let shown = [body.to_string(), node.get("/metrics").await.text(), node.admin("participants").await.to_string()];
    node.terminate().await;
    for text in shown.into_iter().chain([node.log()]) {
        assert!(!text.contains("s3cret-word"), "the password is shown: {text}");
    }
    Amqp::connect(&broker.url()).await;
}
