import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.rest.annotation.Operation;
import ca.uhn.fhir.rest.annotation.OperationParam;
import ca.uhn.fhir.rest.annotation.ResourceParam;
import ca.uhn.fhir.rest.server.RestfulServer;
import java.net.InetSocketAddress;
import java.util.UUID;
import org.eclipse.jetty.ee10.servlet.ServletContextHandler;
import org.eclipse.jetty.ee10.servlet.ServletHolder;
import org.eclipse.jetty.server.Server;
import org.hl7.fhir.r4.model.Bundle;
import org.hl7.fhir.r4.model.MessageHeader;

/** A receiver on HAPI's server: it answers each message with `ok`. Argument: the port. */
public class HapiReceiver {
  public static class Messages {
    @Operation(name = "$process-message", idempotent = false)
    public Bundle process(@ResourceParam Bundle message) {
      MessageHeader request = (MessageHeader) message.getEntryFirstRep().getResource();
      MessageHeader header = new MessageHeader();
      header.setId(UUID.randomUUID().toString());
      header.setEvent(request.getEvent());
      header.getSource().setEndpoint("http://hapi.example.org/fhir");
      header.getResponse().setIdentifier(request.getIdElement().getIdPart() != null
          ? request.getIdElement().getIdPart() : message.getIdElement().getIdPart())
          .setCode(MessageHeader.ResponseType.OK);
      Bundle answer = new Bundle().setType(Bundle.BundleType.MESSAGE);
      answer.setId(UUID.randomUUID().toString());
      answer.addEntry().setFullUrl("urn:uuid:" + header.getIdElement().getIdPart()).setResource(header);
      System.out.println("took " + request.getEventCoding().getCode());
      return answer;
    }
  }

  public static void main(String[] arguments) throws Exception {
    var fhir = new RestfulServer(FhirContext.forR4());
    fhir.registerProvider(new Messages());
    var jetty = new Server(new InetSocketAddress("127.0.0.1", Integer.parseInt(arguments[0])));
    var web = new ServletContextHandler();
    web.addServlet(new ServletHolder(fhir), "/fhir/*");
    jetty.setHandler(web);
    jetty.start();
    System.out.println("ready");
    jetty.join();
  }
}
