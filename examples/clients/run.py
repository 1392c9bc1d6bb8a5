#!/usr/bin/env python3
"""Runs other people's clients and servers against a router: what they do by default must work.

    examples/clients/run.py [NAME ...]      one or more of the names below; all without arguments

Needs a built `emberpost` (EMBERPOST names it; default: target/release, else target/debug), and what each client needs: python3 with
pip, node with npm, amqp-tools, a JDK with Maven, rabbitmq-server. With AMQP_URL set, that broker is used; otherwise a private one is
started on free ports in a temporary folder. Prints one line for each client; exits with 1 if one of them fails.
"""

import glob
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CACHE = ROOT / "target" / "clients"
WAIT_SECONDS = 60


class Failed(Exception):
    """A client did not do what it should."""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(what, condition):
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(f"not within {WAIT_SECONDS} s: {what}")
        time.sleep(0.1)


def run(*command, **options):
    """Runs a command to its end; what it printed. A failure shows everything it said."""
    try:
        ended = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300, **options)
    except subprocess.TimeoutExpired:
        raise Failed(f"{command[0]} did not end within 300 s") from None
    if ended.returncode != 0:
        raise Failed(f"{command[0]} ended with {ended.returncode}\n{ended.stdout}{ended.stderr}")
    return ended.stdout


def expect(printed, *lines):
    got = printed.split("\n")
    for line in lines:
        if line not in got:
            raise Failed(f"no line {line!r} in:\n{printed}")


def program():
    named = os.environ.get("EMBERPOST")
    built = [ROOT / "target" / kind / "emberpost" for kind in ("release", "debug")]
    for path in [Path(named)] if named else built:
        if path.exists():
            return path
    raise Failed("there is no emberpost; run `cargo build --release` first")


class Process:
    """A program that runs until it is stopped, with its output in a file."""

    def __init__(self, command, folder, name, environment=None):
        self.log = folder / f"{name}.log"
        with open(self.log, "w", encoding="utf-8") as log:
            self.child = subprocess.Popen(
                [str(part) for part in command], cwd=folder, stdout=log, stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})}, start_new_session=True)

    def text(self):
        return self.log.read_text(encoding="utf-8", errors="replace")

    def stop(self):
        if self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()


class Broker:
    """AMQP_URL, else a private RabbitMQ."""

    def __init__(self, folder):
        self.processes = []
        self.url = os.environ.get("AMQP_URL")
        if self.url:
            return
        found = sorted(glob.glob("/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server"))
        if not found:
            raise Failed("rabbitmq-server is not installed")
        port, distribution, epmd = free_port(), free_port(), free_port()
        (folder / "enabled_plugins").write_text("[].\n", encoding="utf-8")
        environment = {
            "HOME": str(folder), "RABBITMQ_NODENAME": f"clients{port}@localhost", "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(port), "RABBITMQ_DIST_PORT": str(distribution), "ERL_EPMD_PORT": str(epmd),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"), "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"), "ERL_EPMD_ADDRESS": "127.0.0.1",
        }
        epmd_program = shutil.which("epmd")
        if epmd_program:
            # A mapper of its own, so that it ends with this program.
            self.processes.append(Process([epmd_program], folder, "epmd", environment))
        broker = Process([found[-1]], folder, "broker", environment)
        self.processes.append(broker)
        self.url = f"amqp://guest:guest@127.0.0.1:{port}/%2f"

        def answers():
            if broker.child.poll() is not None:
                raise Failed(f"the broker ended:\n{broker.text()}")
            return "Starting broker... completed" in broker.text()

        wait_for("the broker is ready", answers)

    def stop(self):
        for process in reversed(self.processes):
            process.stop()


class Router:
    """A router with a hospital that sends and receivers that answer."""

    def __init__(self, folder, amqp_url=None, receiver_url=None):
        self.port, self.callback_port = free_port(), free_port()
        self.queue = f"clients.inbound.{self.port}"
        channel = f'channel = {{ type = "http", url = "{receiver_url}" }}' if receiver_url else ""
        amqp = ""
        if amqp_url:
            answers = f"clients.answers.{self.port}"
            amqp = f'[amqp]\nurl = "{amqp_url}"\ninbound_queues = ["{self.queue}"]\nanswer_queue = "{answers}"\n'
        text = f"""
[server]
listen = "127.0.0.1:{self.port}"
[store]
min_free_bytes = 0
[definitions]
paths = ["{ROOT / 'message-definitions'}"]
{amqp}
[[participant]]
id = "ward"
addresses = ["http://ward.example.org/*", "http://127.0.0.1:{self.callback_port}/*"]
[[participant]]
id = "hapi"
addresses = ["http://hapi.example.org/fhir"]
{channel}
"""
        config = folder / "emberpost.toml"
        config.write_text(text, encoding="utf-8")
        self.process = Process([program(), "serve", "--config", config], folder, "router")
        self.base = f"http://127.0.0.1:{self.port}/fhir"
        wait_for("the router is ready", self.is_ready)

    def is_ready(self):
        if self.process.child.poll() is not None:
            raise Failed(f"the router ended:\n{self.process.text()}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health/ready", timeout=5) as reply:
                return reply.status == 200
        except (urllib.error.URLError, OSError):
            return False


def message(folder, identity=None, to=None):
    """The message that the clients send: to the HAPI receiver, or to the address `to`."""
    text = (HERE / "message.json").read_text(encoding="utf-8")
    if to:
        text = text.replace("http://hapi.example.org/fhir", to)
    if identity:
        text = text.replace("PLACEHOLDER", identity)
    path = folder / f"message-{identity or 'any'}.json"
    path.write_text(text, encoding="utf-8")
    return path


def r5_query(folder, to):
    """A pull event in R5, which Emberpost answers itself."""
    sample = ROOT / "message-definitions" / "samples" / "valueset-expand-request-r5.json"
    bundle = json.loads(sample.read_text(encoding="utf-8"))
    header = bundle["entry"][0]["resource"]
    header["source"] = {"endpointUrl": "http://ward.example.org/fhir"}
    header["destination"] = [{"endpointUrl": to}]
    path = folder / "r5.json"
    path.write_text(json.dumps(bundle), encoding="utf-8")
    return path


def java(folder):
    """The class path of the Java examples, compiled."""
    out = CACHE / "java"
    out.mkdir(parents=True, exist_ok=True)
    class_path = out / "classpath"
    run("mvn", "-q", "-B", "-f", HERE / "java" / "pom.xml", "compile",
        "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:build-classpath", f"-Dmdep.outputFile={class_path}", cwd=folder)
    return f"{out / 'classes'}:{class_path.read_text(encoding='utf-8').strip()}"


def java_command(class_path, *arguments):
    return ["java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", class_path, *arguments]


def receiver(context):
    """HAPI's server as the receiver of everything."""
    port = free_port()
    process = Process(java_command(java(context.folder), "HapiReceiver", port), context.folder, "receiver")
    context.stops.append(process)
    wait_for("the HAPI receiver is ready", lambda: "ready" in process.text())
    return process, f"http://127.0.0.1:{port}/fhir"


def hapi(context):
    """HAPI's client, R4 and R5, synchronous and asynchronous; HAPI's server receives the R4 messages."""
    took, url = receiver(context)
    router = context.router(receiver_url=url)
    class_path = java(context.folder)
    for version, base, path in [
        ("r4", router.base, message(context.folder)),
        ("r4", f"{router.base}/R4", message(context.folder)),
        ("r5", f"{router.base}/R5", r5_query(context.folder, f"{router.base}/R5")),
    ]:
        printed = run(*java_command(class_path, "HapiClient", version, base, path, router.callback_port))
        expect(printed, "synchronous ok", "asynchronous OperationOutcome", "callback ok")
    if took.text().count("took patient-link") < 2:
        raise Failed(f"the HAPI server did not get the messages:\n{took.text()}")


def spring_amqp(context):
    router = context.router(amqp=True)
    path = message(context.folder, to=router.base)
    printed = run(*java_command(java(context.folder), "SpringAmqp", context.broker().url, router.queue, path))
    expect(printed, "text/plain ok", "application/octet-stream ok")


def kombu(context):
    router = context.router(amqp=True)
    packages = CACHE / "python"
    if not (packages / "kombu").exists():
        run(sys.executable, "-m", "pip", "install", "-q", "--target", packages, "kombu==5.5.4")
    path = message(context.folder, to=router.base)
    environment = {**os.environ, "PYTHONPATH": str(packages)}
    printed = run(sys.executable, HERE / "python" / "kombu_client.py", context.broker().url, router.queue, path, env=environment)
    expect(printed, "dict ok", "text ok")


def amqp_tools(context):
    """amqp-publish sets no content type at all; the answer is read back with amqp-get."""
    router = context.router(amqp=True)
    url = context.broker().url
    path = message(context.folder, "amqp-tools-1", to=router.base)
    replies = f"clients.replies.{router.port}"
    run("amqp-declare-queue", "-u", url, "-q", replies)
    with open(path, "rb") as body:
        run("amqp-publish", "-u", url, "-r", router.queue, "--reply-to", replies, stdin=body)
    answers = []

    def answered():
        ended = subprocess.run(["amqp-get", "-u", url, "-q", replies], capture_output=True, text=True, timeout=30)
        answers.append(ended.stdout)
        return ended.returncode == 0

    wait_for("an answer in the queue", answered)
    run("amqp-delete-queue", "-u", url, "-q", replies)
    if '"code":"ok"' not in answers[-1]:
        raise Failed(f"not ok: {answers[-1]}")


def fhir_kit_client(context):
    router = context.router()
    folder = CACHE / "node"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ["package.json", "fhir-kit.mjs"]:
        shutil.copy(HERE / "node" / name, folder / name)
    if not (folder / "node_modules" / "fhir-kit-client").exists():
        run("npm", "install", "--silent", "--no-audit", "--no-fund", cwd=folder)
    for base, version in [(router.base, "4.0.1"), (f"{router.base}/R4B", "4.3.0")]:
        path = message(context.folder, f"fhir-kit-{version.replace('.', '-')}", to=base)
        printed = run("node", folder / "fhir-kit.mjs", base, path)
        expect(printed, f"version {version}", "answer ok")


CLIENTS = {
    "hapi": hapi,
    "spring-amqp": spring_amqp,
    "kombu": kombu,
    "amqp-tools": amqp_tools,
    "fhir-kit-client": fhir_kit_client,
}


class Context:
    """What one client runs in; everything that it started ends with it."""

    shared_broker = None

    def __init__(self, folder):
        self.folder, self.stops = folder, []

    def broker(self):
        if Context.shared_broker is None:
            broker_folder = Path(tempfile.mkdtemp(prefix="emberpost-broker-"))
            Context.shared_broker = (Broker(broker_folder), broker_folder)
        return Context.shared_broker[0]

    def router(self, amqp=False, receiver_url=None):
        router = Router(self.folder, self.broker().url if amqp else None, receiver_url)
        self.stops.append(router.process)
        return router

    def stop(self):
        for process in reversed(self.stops):
            process.stop()


def main(names):
    unknown = [name for name in names if name not in CLIENTS]
    if unknown:
        print(f"there is no client {unknown[0]!r}; the names are: {', '.join(CLIENTS)}", file=sys.stderr)
        return 2
    failures = 0
    for name in names or CLIENTS:
        folder = Path(tempfile.mkdtemp(prefix="emberpost-client-"))
        context = Context(folder)
        try:
            CLIENTS[name](context)
            print(f"{name}: works", flush=True)
        except (Failed, FileNotFoundError) as failure:
            failures += 1
            print(f"{name}: FAILED: {failure}", flush=True)
            log = folder / "router.log"
            if log.exists():
                print(log.read_text(encoding="utf-8", errors="replace")[-4000:], flush=True)
        finally:
            context.stop()
            shutil.rmtree(folder, ignore_errors=True)
    if Context.shared_broker is not None:
        Context.shared_broker[0].stop()
        shutil.rmtree(Context.shared_broker[1], ignore_errors=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
