"""Sends a message, waits for the answer, and prints its response code. Usage: sender.py BASE FILE"""
import json, sys, time, urllib.request

base, file = sys.argv[1:]
headers = {"Content-Type": "application/fhir+json", "Accept": "application/fhir+json"}
request = urllib.request.Request(f"{base}/$process-message", open(file, "rb").read(), headers)
reply = urllib.request.urlopen(request, timeout=60)  # a 4xx or 5xx raises HTTPError; its body is an OperationOutcome
body = reply.read()
while reply.status == 202 and (status_url := reply.headers["Content-Location"]):
    time.sleep(int(reply.headers.get("Retry-After", 2)))
    poll = urllib.request.urlopen(status_url, timeout=60)
    if poll.status == 200:  # a batch-response with one entry per receiver
        entry = json.load(poll)["entry"][0]
        body = json.dumps(entry.get("resource") or entry["response"]["outcome"]).encode()
        break
answer = json.loads(body or b"null")
if answer and answer["resourceType"] == "Bundle":
    print(answer["entry"][0]["resource"]["response"]["code"])
else:
    print("accepted without an answer", reply.status)
