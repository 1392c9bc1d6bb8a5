//! A router on a broker with queues of its own, and another party that reads and writes them.

use super::script::answer_to;
use super::{Amqp, Broker, NodeConfig, Party, Props, SOON, Sample, Taken};

/// The queues of one test.
pub struct Lines {
    pub client: Amqp,
    pub url: String,
    pub inbound: String,
    pub answers: String,
    /// Of the participant `lab`.
    pub lab: String,
}

impl Lines {
    pub async fn on(broker: &Broker) -> Lines {
        Lines {
            client: Amqp::connect(&broker.url()).await,
            url: broker.url(),
            inbound: Broker::name("inbound"),
            answers: Broker::name("answers"),
            lab: Broker::name("lab"),
        }
    }

    /// A router on these queues, with `sender`, who has no channel, and `lab`, who is read by `asked`.
    pub fn config(&self) -> NodeConfig {
        self.config_of(Party::sender()).participant(self.lab())
    }

    /// A router on these queues with one participant.
    pub fn config_of(&self, party: Party) -> NodeConfig {
        NodeConfig::new().amqp(&self.url, &self.inbound, &self.answers).participant(party)
    }

    pub fn lab(&self) -> Party {
        Party::new("lab").amqp("", &self.lab)
    }

    /// A queue to answer to, which outlives its readers.
    pub async fn replies(&self) -> String {
        let name = Broker::name("replies");
        self.client.declare(&name, &[]).await;
        name
    }

    /// Publishes to the router.
    pub async fn tell(&self, message: &[u8], props: Props) {
        assert!(self.client.publish("", &self.inbound, message, props).await, "the router's queue is not there");
    }

    /// Publishes to the router and waits for the answer.
    pub async fn request(&self, message: &Sample) -> Taken {
        let answer = self.client.request("", &self.inbound, &message.bytes(), Props::json(), SOON).await;
        answer.expect("an answer comes")
    }

    /// The next message of a queue.
    pub async fn next(&self, queue: &str) -> Taken {
        self.client.take(queue, 1, SOON).await.remove(0)
    }

    /// The next message to the lab.
    pub async fn asked(&self) -> Taken {
        self.next(&self.lab).await
    }

    /// Answers as a receiver should: to `reply_to`, with the request's `correlation_id`. The answer's bytes.
    pub async fn answer(&self, asked: &Taken, code: &str) -> Vec<u8> {
        let answer = answer_to(&asked.body, code);
        let props = Props::json().correlation_id(asked.correlation_id().expect("a correlation_id"));
        assert!(self.client.publish("", asked.reply_to().expect("a reply_to"), &answer, props).await);
        answer
    }

    /// Reads the lab's next message and answers it.
    pub async fn lab_answers(&self, code: &str) -> Vec<u8> {
        let asked = self.asked().await;
        self.answer(&asked, code).await
    }
}
