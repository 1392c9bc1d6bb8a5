// Sends a message with HAPI FHIR, waits for the answer, and prints its response code. Usage: Sender BASE FILE
import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.rest.client.api.ServerValidationModeEnum;
import java.nio.file.Files;
import java.nio.file.Path;
import org.hl7.fhir.instance.model.api.IBaseResource;
import org.hl7.fhir.r4.model.Bundle;
import org.hl7.fhir.r4.model.MessageHeader;

public class Sender {
  public static void main(String[] arguments) throws Exception {
    var fhir = FhirContext.forR4();
    fhir.getRestfulClientFactory().setServerValidationMode(ServerValidationModeEnum.NEVER);
    fhir.getRestfulClientFactory().setSocketTimeout(60_000); // longer than server.answer_timeout_ms
    var client = fhir.newRestfulGenericClient(arguments[0]);
    var message = fhir.newJsonParser().parseResource(Bundle.class, Files.readString(Path.of(arguments[1])));
    // A 4xx or 5xx throws a BaseServerResponseException, with the OperationOutcome.
    var answer = client.operation().processMessage().setMessageBundle(message).synchronous(IBaseResource.class).execute();
    if (answer instanceof Bundle bundle && bundle.getEntryFirstRep().getResource() instanceof MessageHeader header) {
      System.out.println(header.getResponse().getCode().toCode());
    } else {
      // 202: the header Content-Location has the status URL, which an interceptor of the client can read.
      System.out.println("accepted without an answer");
    }
  }
}
