"""Receives messages on 127.0.0.1:9000 and answers each with `ok`. Duplicates get the first answer again."""
import http.server, json, uuid

answers = {}  # by identity; a real receiver stores them with its data, in one transaction

class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        bundle = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        header = bundle["entry"][0]["resource"]
        # Some clients drop MessageHeader.id; then the UUID of the entry's fullUrl names the message.
        header_id = header.get("id") or bundle["entry"][0]["fullUrl"].removeprefix("urn:uuid:")
        key = (header["source"]["endpoint"], bundle.get("id"), header_id)
        if key not in answers:
            answers[key] = self.process(header, header_id)
        answer = answers[key]
        self.send_response(200)
        self.send_header("Content-Type", "application/fhir+json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def process(self, header, header_id):
        new_id = str(uuid.uuid4())
        answer = {"resourceType": "MessageHeader", "id": new_id, "eventCoding": header["eventCoding"],
                  "source": {"endpoint": "https://lab.example.org/fhir"},
                  "destination": [{"endpoint": header["source"]["endpoint"]}],
                  "response": {"identifier": header_id, "code": "ok"}}
        return json.dumps({"resourceType": "Bundle", "id": str(uuid.uuid4()), "type": "message",
                           "entry": [{"fullUrl": f"urn:uuid:{new_id}", "resource": answer}]}).encode()

http.server.ThreadingHTTPServer(("127.0.0.1", 9000), Receiver).serve_forever()
