//! An answer that cannot be read is told of where its request is looked at.

use serde_json::{Value, json};

use crate::harness::{Broker, Lines, Node, Party, Props, SOON, Sample, wait_for};

/// The lab's delivery of the newest request, when it has this fault.
async fn blamed(node: &Node, fault: &str) -> Value {
    wait_for(SOON, &format!("the delivery has the fault {fault}"), async || {
        let page = node.admin(&format!("deliveries?participant=lab&fault={fault}")).await;
        page["items"].as_array().unwrap().first().cloned()
    })
    .await
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_tied_to_the_request_that_its_correlation_id_names() {
    let Some(broker) = Broker::shared().await else { return };
    for (what, body, props) in [
        ("no JSON", b"{\"resourceType\":".to_vec(), Props::json()),
        ("no FHIR", b"{\"status\":\"ok\"}".to_vec(), Props::json()),
        ("no message", b"{\"resourceType\":\"OperationOutcome\",\"issue\":[{}]}".to_vec(), Props::json()),
        ("no known encoding", Sample::new().bytes(), Props::json().content_encoding("br")),
        ("too large", Sample::new().padded(200_000).answering("a", "ok").bytes(), Props::json()),
        ("an unknown source", Sample::new().from("http://x.example").answering("a", "ok").bytes(), Props::json()),
    ] {
        let lines = Lines::on(&broker).await;
        let node = lines.config().server("answer_timeout_ms = 200").server("body_limit_bytes = 100_000").start().await;
        let request = Sample::new().addressed_to("lab");
        let custody = node.post(request.bytes()).await.expect_status(202);
        let id = custody.header("emberpost-message-id").unwrap();
        let asked = lines.asked().await;
        let props = props.correlation_id(asked.correlation_id().unwrap());
        assert!(lines.client.publish("", &lines.answers, &body, props).await);
        let delivery = blamed(&node, "RECV_BAD_ANSWER").await;
        assert_eq!((&delivery["message"], &delivery["state"]), (&json!(id), &json!("delivered")), "{what}");
        let timeline = node.admin(&format!("messages/{id}/timeline")).await;
        let entries: Vec<&Value> =
            timeline["items"].as_array().unwrap().iter().filter(|entry| entry["what"] == "unreadable").collect();
        assert_eq!(entries.len(), 1, "{what}: {timeline}");
        let refused = node.admin(&format!("messages/{}", entries[0]["reference"].as_str().unwrap())).await;
        assert_eq!((&refused["state"], &refused["in_reply_to"]), (&json!("refused"), &json!(id)), "{what}");
        assert_eq!(node.admin(&format!("messages/{id}")).await["answers"], json!([]), "{what}");

        // The request waits on, and its answer ends the fault.
        let status = format!("/fhir/async/{id}");
        assert_eq!(node.get(&status).await.status, 202, "{what}");
        let answer = lines.answer(&asked, "ok").await;
        wait_for(SOON, "the answer is there", async || (node.get(&status).await.status == 200).then_some(())).await;
        assert_eq!(
            node.get(&status).await.json()["entry"][0]["resource"],
            serde_json::from_slice::<Value>(&answer).unwrap()
        );
        assert_eq!(node.admin("deliveries?fault=RECV_BAD_ANSWER").await["items"], json!([]), "{what}");
    }
}

#[tokio::test]
async fn what_is_no_answer_of_a_receiver_blames_nobody() {
    let Some(broker) = Broker::shared().await else { return };
    let lines = Lines::on(&broker).await;
    let sender = Party::sender().amqp("", &Broker::name("home"));
    let node = lines.config_of(sender).participant(lines.lab()).server("answer_timeout_ms = 200").start().await;
    let custody = node.post(Sample::new().addressed_to("lab").bytes()).await.expect_status(202);
    let id = custody.header("emberpost-message-id").unwrap().to_owned();
    let asked = lines.asked().await;
    // Unreadable, but of no request of ours; and a request that is refused.
    let refused = Sample::new().to("http://nobody.example").bytes();
    for (body, correlation) in [(&b"{"[..], "c"), (b"{", "0199a4c2-7d3e-7c61-8c06-0f6d1a2b3c4d"), (&refused, &*id)] {
        assert!(lines.client.publish("", &lines.inbound, body, Props::json().correlation_id(correlation)).await);
    }
    wait_for(SOON, "all are refused", async || {
        let page = node.admin("messages?state=refused").await;
        (page["items"].as_array().unwrap().len() == 3).then_some(())
    })
    .await;
    assert_eq!(node.admin("deliveries?fault=RECV_BAD_ANSWER").await["items"], json!([]));
    // Nor after the answer.
    lines.answer(&asked, "ok").await;
    wait_for(SOON, "it is answered", async || {
        let page = node.admin("deliveries?participant=lab&state=answered").await;
        page["items"].as_array().unwrap().first().cloned()
    })
    .await;
    assert!(lines.client.publish("", &lines.inbound, b"{", Props::json().correlation_id(&id)).await);
    wait_for(SOON, "it is refused", async || {
        let page = node.admin("messages?state=refused").await;
        (page["items"].as_array().unwrap().len() == 4).then_some(())
    })
    .await;
    assert_eq!(node.admin("deliveries?fault=RECV_BAD_ANSWER").await["items"], json!([]));
}
