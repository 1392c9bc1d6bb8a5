//! Who may say what over AMQP: the broker's users, certificates, virtual hosts.

use std::path::{Path, PathBuf};
use std::process::Command;

use lapin::BasicProperties;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use tempfile::TempDir;

use crate::harness::{Amqp, Broker, Lines, Party, Props, Reply, SOON, Sample, free_address, wait_until};

const PASSWORD: &str = "broker-secret";

/// A new user of the broker who may do everything in the virtual host; the URL to connect with.
async fn user(broker: &Broker, name: &str, vhost: &str) -> String {
    broker.ctl_ok(&["add_user", name, PASSWORD]).await;
    broker.ctl_ok(&["set_permissions", "-p", vhost, name, ".*", ".*", ".*"]).await;
    let vhost = vhost.replace('/', "%2f");
    format!("amqp://{name}:{PASSWORD}@127.0.0.1:{}/{vhost}", broker.port())
}

fn from(party: &str) -> Sample {
    Sample::new().from(&format!("http://{party}.example/fhir")).addressed_to("lab")
}

/// The answer to a message that this client publishes; without an answer it was taken.
async fn refusal(client: &Amqp, lines: &Lines, message: &Sample, props: Props) -> Vec<String> {
    let answer = client.request("", &lines.inbound, &message.bytes(), props, SOON).await.expect("an answer comes");
    Reply { status: 200, headers: Default::default(), body: answer.body.into() }.faults()
}

#[tokio::test]
async fn a_participant_with_a_user_of_the_broker_is_known_by_it_alone() {
    let Some(broker) = Broker::shared().await else { return };
    let (ward_user, unit_user) = (Broker::name("ward"), Broker::name("unit"));
    let ward = Amqp::connect(&user(&broker, &ward_user, "/").await).await;
    let unit = Amqp::connect(&user(&broker, &unit_user, "/").await).await;
    let lines = Lines::on(&broker).await;
    let home = Broker::name("home");
    let config = lines.config().participant(Party::new("ward").amqp("", &home).amqp_user(&ward_user));
    let node = config.participant(Party::new("unit").amqp_user(&unit_user)).start().await;
    let said = |user: &str| Props::json().user_id(user);

    // As itself, and by the broker's word.
    let own = from("ward");
    assert!(ward.publish("", &lines.inbound, &own.bytes(), said(&ward_user)).await);
    let asked = lines.asked().await;
    assert_eq!(asked.body, own.bytes());
    let kept = node.admin(&format!("messages/{}", asked.correlation_id().unwrap())).await;
    assert_eq!(kept["sender"], "ward");
    assert_eq!(asked.properties.user_id(), &None, "a participant's user is nothing to the receiver");

    // Somebody in its name, with and without a user of their own; itself without its user, and in another's name.
    let foreign = ["SEND_FOREIGN_SOURCE"];
    assert_eq!(refusal(&lines.client, &lines, &from("ward"), Props::json()).await, foreign);
    assert_eq!(refusal(&lines.client, &lines, &from("ward"), said("guest")).await, foreign);
    assert_eq!(refusal(&unit, &lines, &from("ward"), said(&unit_user)).await, foreign);
    assert_eq!(refusal(&ward, &lines, &from("ward"), Props::json()).await, foreign);
    assert_eq!(refusal(&ward, &lines, &from("sender"), said(&ward_user)).await, foreign);
    // Whoever speaks in its name without a reply queue is not answered at its door.
    lines.tell(&from("ward").bytes(), Props::json()).await;
    wait_until(SOON, "six are refused and kept", async || {
        node.admin("messages?state=refused").await["items"].as_array().unwrap().len() == 6
    })
    .await;
    // One delivery: of the answer to what it said itself in the sender's name.
    let answers = node.admin("deliveries?participant=ward").await;
    assert_eq!(answers["items"].as_array().unwrap().len(), 1, "{answers}");
    assert_eq!(lines.client.depth(&home).await, Some(0));

    // A participant without a user is known by its source, whoever publishes.
    for props in [Props::json(), said("guest")] {
        let message = from("sender");
        lines.tell(&message.bytes(), props).await;
        assert_eq!(lines.asked().await.body, message.bytes());
    }
    assert_eq!(lines.client.depth(&lines.lab).await, Some(0), "a refused message was delivered");
}

#[tokio::test]
async fn the_broker_itself_refuses_a_false_user() {
    let Some(broker) = Broker::shared().await else { return };
    let name = Broker::name("ward");
    user(&broker, &name, "/").await;
    let lines = Lines::on(&broker).await;
    let node = lines.config().participant(Party::new("ward").amqp_user(&name)).start().await;
    let channel = lines.client.channel().await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let properties = BasicProperties::default().with_user_id(name.as_str().into());
    let (queue, options, body) = (lines.inbound.as_str().into(), BasicPublishOptions::default(), from("ward").bytes());
    let written = channel.basic_publish("".into(), queue, options, &body, properties).await;
    let refused = match written {
        Ok(confirm) => confirm.await.is_err(),
        Err(_) => true,
    };
    assert!(refused, "the broker took a user_id that is not the connection's");
    assert_eq!(node.admin("messages").await["items"].as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn an_answer_of_a_party_with_a_user_needs_it_too() {
    let Some(broker) = Broker::shared().await else { return };
    let name = Broker::name("lab");
    let lab = Amqp::connect(&user(&broker, &name, "/").await).await;
    let lines = Lines::on(&broker).await;
    let config = lines.config_of(Party::sender()).participant(lines.lab().amqp_user(&name));
    let node = config.start().await;
    let request = from("sender");
    let (reply, answer) = tokio::join!(node.post(request.bytes()), async {
        let asked = lines.asked().await;
        let forged = Sample::new().from("http://lab.example/fhir").answering(&request.header_id(), "fatal-error");
        assert!(lines.client.publish("", &lines.answers, &forged.bytes(), Props::json()).await);
        let answer = crate::harness::script::answer_to(&asked.body, "ok");
        assert!(lab.publish("", &lines.answers, &answer, Props::json().user_id(&name)).await);
        answer
    });
    assert_eq!(reply.expect_status(200).body, answer);
    let refused = node.admin("messages?state=refused").await;
    assert_eq!(refused["items"].as_array().unwrap().len(), 1, "the forged answer was not refused");
}

#[tokio::test]
async fn a_router_lives_in_a_virtual_host_of_its_own() {
    let Some(broker) = Broker::shared().await else { return };
    let vhost = Broker::name("hospital/");
    broker.ctl_ok(&["add_vhost", &vhost]).await;
    let url = user(&broker, &Broker::name("router"), &vhost).await;
    let mut lines = Lines::on(&broker).await;
    let outside = std::mem::replace(&mut lines.client, Amqp::connect(&url).await);
    lines.url = url;
    let node = lines.config().start().await;
    let request = from("sender");
    let (reply, answer) = tokio::join!(node.post(request.bytes()), lines.lab_answers("ok"));
    assert_eq!(reply.expect_status(200).body, answer);
    assert_eq!(outside.depth(&lines.inbound).await, None, "the queue is in the default virtual host, too");
    let ready = node.get("/health/ready").await;
    assert!(!ready.text().contains(PASSWORD) && !node.log().contains(PASSWORD));
    broker.ctl_ok(&["delete_vhost", &vhost]).await;
}

/// Two authorities, a broker's certificate of the first, and clients' certificates.
struct Certificates {
    folder: TempDir,
}

impl Certificates {
    fn make() -> Certificates {
        let certificates = Certificates { folder: TempDir::with_prefix("emberpost-tls-").unwrap() };
        for authority in ["ca", "other-ca"] {
            certificates.openssl(&format!(
                "req -x509 {KEY} -keyout {authority}.key -out {authority}.pem -days 2 -subj /CN={authority} \
                 -addext basicConstraints=critical,CA:TRUE"
            ));
        }
        for (name, usage) in [("broker", "serverAuth"), ("router", "clientAuth"), ("stranger", "clientAuth")] {
            let extension = format!("subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage={usage}\n");
            std::fs::write(certificates.path("extensions"), extension).unwrap();
            certificates.openssl(&format!("req {KEY} -keyout {name}.key -out {name}.csr -subj /CN={name}"));
            certificates.openssl(&format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions \
                 -out {name}.pem"
            ));
        }
        certificates
    }

    fn openssl(&self, arguments: &str) {
        let mut command = Command::new("openssl");
        let output = command.args(arguments.split_whitespace()).current_dir(self.folder.path()).output().unwrap();
        assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn path(&self, file: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(file)
    }

    /// Lines for the broker: TLS on this address, certificates as passwords.
    fn settings(&self, address: &std::net::SocketAddr) -> String {
        let file = |name: &str| self.path(name).display().to_string();
        format!(
            "listeners.ssl.1 = {address}\nssl_options.cacertfile = {}\nssl_options.certfile = {}\n\
             ssl_options.keyfile = {}\nssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = false\n\
             ssl_cert_login_from = common_name\nauth_mechanisms.1 = PLAIN\nauth_mechanisms.2 = EXTERNAL\n",
            file("ca.pem"),
            file("broker.pem"),
            file("broker.key"),
        )
    }
}

const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";

/// A router that is told of two brokers, of which the second lets it in: what it says of the first.
async fn why_not(lines: &Lines, first: &str) -> String {
    let urls = format!("url = {:?}", [first, &lines.url]);
    let node = lines.config().with_amqp(&urls).start().await;
    let log = node.log();
    let why = log.lines().find(|line| line.contains("cannot connect to amqps://localhost"));
    let why = why.unwrap_or_else(|| panic!("nothing is said of the first broker:\n{log}"));
    assert!(!log.contains(PASSWORD));
    let links = &node.get("/health/ready").await.json()["amqp_links"];
    assert!(links["out"]["broker"].as_str().unwrap().starts_with("amqp://127.0.0.1"), "{links}");
    why.to_owned()
}

#[tokio::test]
async fn tls_trusts_the_authority_that_it_is_told_of_and_a_certificate_is_a_password() {
    let (certificates, tls) = (Certificates::make(), free_address());
    let settings = certificates.settings(&tls);
    let Some(broker) = Broker::start_with(&settings, &["rabbitmq_auth_mechanism_ssl"]).await else { return };
    let with_password = user(&broker, "router", "/").await.replace("amqp://", "amqps://");
    let with_password =
        with_password.replace(&format!("127.0.0.1:{}", broker.port()), &format!("localhost:{}", tls.port()));
    let external = |name: &str, authority: &str| {
        let file = |name: String| certificates.path(name).display().to_string();
        let (ca, cert, key) =
            (file(format!("{authority}.pem")), file(format!("{name}.pem")), file(format!("{name}.key")));
        let port = tls.port();
        format!("amqps://localhost:{port}/%2f?auth_mechanism=external&cacertfile={ca}&certfile={cert}&keyfile={key}")
    };
    let ca = format!("{with_password}?cacertfile={}", certificates.path("ca.pem").display());
    for url in [external("router", "ca"), ca] {
        let mut lines = Lines::on(&broker).await;
        lines.url = url;
        let node = lines.config().start().await;
        let (reply, answer) = tokio::join!(node.post(from("sender").bytes()), lines.lab_answers("ok"));
        assert_eq!(reply.expect_status(200).body, answer);
        let links = &node.get("/health/ready").await.json()["amqp_links"];
        assert_eq!(links["in"]["broker"], format!("amqps://localhost:{}/", tls.port()));
        assert!(broker.ctl_ok(&["list_connections", "user"]).await.contains("router"));
        assert!(!node.log().contains(PASSWORD));
    }
    let lines = Lines::on(&broker).await;
    let untrusted = [external("router", "other-ca"), with_password];
    for url in untrusted {
        let why = why_not(&lines, &url).await;
        assert!(why.contains("certificate") && why.contains("cacertfile"), "{why}");
    }
    // A certificate of the right authority, of somebody who is no user of the broker.
    let why = why_not(&lines, &external("stranger", "ca")).await;
    assert!(why.contains("ACCESS_REFUSED") || why.contains("ACCESS-REFUSED"), "{why}");
    let why = why_not(&lines, &external("nobody", "ca")).await;
    assert!(why.contains("cannot read") && why.contains("nobody.pem"), "{why}");
}

#[tokio::test]
async fn a_file_without_what_the_url_promises_is_named_with_what_it_lacks() {
    let certificates = Certificates::make();
    let Some(broker) = Broker::shared().await else { return };
    let lines = Lines::on(&broker).await;
    certificates.openssl("pkcs8 -topk8 -in router.key -out encrypted.key -passout pass:word");
    let cases = [
        ("ca.key", "router.pem", "router.key", "ca.key has no certificate"),
        ("ca.pem", "router.key", "router.key", "router.key has no certificate"),
        ("ca.pem", "router.pem", "router.pem", "router.pem has no unencrypted private key"),
        ("ca.pem", "router.pem", "encrypted.key", "encrypted.key has no unencrypted private key"),
    ];
    for (ca, cert, key, lacks) in cases {
        let [ca, cert, key] = [ca, cert, key].map(|name| certificates.path(name).display().to_string());
        let files = format!("cacertfile={ca}&certfile={cert}&keyfile={key}");
        let url = format!("amqps://localhost:{}/%2f?auth_mechanism=external&{files}", free_address().port());
        let why = why_not(&lines, &url).await;
        assert!(why.contains(lacks), "{why}");
    }
}
