import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.rest.client.api.IGenericClient;
import ca.uhn.fhir.rest.client.api.ServerValidationModeEnum;
import com.sun.net.httpserver.HttpServer;
import java.io.ByteArrayOutputStream;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.hl7.fhir.instance.model.api.IBaseBundle;
import org.hl7.fhir.instance.model.api.IBaseResource;

/**
 * HAPI's generic client: one message synchronously, one asynchronously with a response-url that this program serves.
 * Arguments: r4|r5, the FHIR base, a file with a message, the port of the response-url.
 */
public class HapiClient {
  public static void main(String[] arguments) throws Exception {
    boolean isR5 = arguments[0].equals("r5");
    FhirContext context = isR5 ? FhirContext.forR5() : FhirContext.forR4();
    // The client reads the CapabilityStatement first and refuses a server of another version.
    context.getRestfulClientFactory().setServerValidationMode(ServerValidationModeEnum.ONCE);
    IGenericClient client = context.newRestfulGenericClient(arguments[1]);
    String text = Files.readString(Path.of(arguments[2]));

    IBaseBundle answer = client.operation().processMessage()
        .setMessageBundle(bundle(context, text, isR5, java.util.UUID.randomUUID().toString()))
        .synchronous(bundleType(isR5)).execute();
    System.out.println("synchronous " + code(answer, isR5));

    CompletableFuture<String> callback = new CompletableFuture<>();
    HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(arguments[3])), 0);
    server.createContext("/callback", exchange -> {
      var body = new ByteArrayOutputStream();
      exchange.getRequestBody().transferTo(body);
      exchange.sendResponseHeaders(200, -1);
      exchange.close();
      callback.complete(body.toString(StandardCharsets.UTF_8));
    });
    server.start();
    try {
      IBaseResource accepted = client.operation().processMessage()
          .setResponseUrlParam("http://127.0.0.1:" + arguments[3] + "/callback")
          .setMessageBundle(bundle(context, text, isR5, java.util.UUID.randomUUID().toString()))
          .asynchronous(context.getResourceDefinition("OperationOutcome").getImplementingClass()).execute();
      System.out.println("asynchronous " + accepted.fhirType());
      String body = callback.get(20, TimeUnit.SECONDS);
      System.out.println("callback " + code((IBaseBundle) context.newJsonParser().parseResource(body), isR5));
    } finally {
      server.stop(0);
    }
  }

  @SuppressWarnings("unchecked")
  private static <T extends IBaseBundle> Class<T> bundleType(boolean isR5) {
    return (Class<T>) (isR5 ? org.hl7.fhir.r5.model.Bundle.class : org.hl7.fhir.r4.model.Bundle.class);
  }

  /** The message with identities of its own: each is a new one. */
  private static IBaseBundle bundle(FhirContext context, String text, boolean isR5, String id) {
    IBaseBundle bundle = (IBaseBundle) context.newJsonParser().parseResource(text);
    if (isR5) {
      var r5 = (org.hl7.fhir.r5.model.Bundle) bundle;
      r5.setId(id);
      r5.getIdentifier().setSystem("urn:ietf:rfc:3986").setValue("urn:uuid:" + id);
    } else {
      var r4 = (org.hl7.fhir.r4.model.Bundle) bundle;
      r4.setId(id);
      r4.getEntryFirstRep().setFullUrl("urn:uuid:" + id).getResource().setId(id);
      r4.getIdentifier().setSystem("urn:ietf:rfc:3986").setValue("urn:uuid:" + id);
    }
    return bundle;
  }

  private static String code(IBaseBundle answer, boolean isR5) {
    if (isR5) {
      var header = (org.hl7.fhir.r5.model.MessageHeader) ((org.hl7.fhir.r5.model.Bundle) answer).getEntryFirstRep().getResource();
      return header.getResponse().getCode().toCode();
    }
    var header = (org.hl7.fhir.r4.model.MessageHeader) ((org.hl7.fhir.r4.model.Bundle) answer).getEntryFirstRep().getResource();
    return header.getResponse().getCode().toCode();
  }
}
