// Sends a message, waits for the answer, and prints its response code. Usage: go run sender.go BASE FILE
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"
)

type resource struct {
	ResourceType string
	Issue        []struct{ Diagnostics string }
	Entry        []struct {
		Resource *struct {
			resource
			Response struct{ Code string }
		}
		Response struct{ Status string }
	}
}

func main() {
	base, path := os.Args[1], os.Args[2]
	file, err := os.Open(path)
	if err != nil {
		log.Fatal(err)
	}
	reply, err := http.Post(base+"/$process-message", "application/fhir+json", file)
	if err != nil {
		log.Fatal(err)
	}
	var answer resource
	json.NewDecoder(reply.Body).Decode(&answer) // empty for 204 and some 202
	if reply.StatusCode >= 400 {
		log.Fatal(reply.Status, " ", answer.Issue) // an OperationOutcome
	}
	statusURL := reply.Header.Get("Content-Location")
	for reply.StatusCode == 202 && statusURL != "" {
		time.Sleep(2 * time.Second)
		if reply, err = http.Get(statusURL); err != nil {
			log.Fatal(err)
		}
		// When finished: a batch-response with one entry per receiver.
		var batch resource
		json.NewDecoder(reply.Body).Decode(&batch)
		if reply.StatusCode == 200 && batch.Entry[0].Resource != nil {
			answer = batch.Entry[0].Resource.resource
		}
	}
	if answer.ResourceType == "Bundle" {
		fmt.Println(answer.Entry[0].Resource.Response.Code)
	} else {
		fmt.Println("accepted without an answer", reply.StatusCode)
	}
}
