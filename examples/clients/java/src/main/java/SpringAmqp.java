import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import org.springframework.amqp.core.Message;
import org.springframework.amqp.rabbit.connection.CachingConnectionFactory;
import org.springframework.amqp.rabbit.core.RabbitTemplate;

/**
 * Spring AMQP's RabbitTemplate with its default converter: a text (`text/plain`, `UTF-8`) and bytes
 * (`application/octet-stream`), each with a reply. Arguments: the broker's URL, the queue, a file with a message.
 */
public class SpringAmqp {
  public static void main(String[] arguments) throws Exception {
    var connections = new CachingConnectionFactory(java.net.URI.create(arguments[0]));
    try {
      var template = new RabbitTemplate(connections);
      template.setReplyTimeout(20_000);
      String text = Files.readString(Path.of(arguments[2]));
      String first = text.replace("PLACEHOLDER", "spring-1");
      byte[] second = text.replace("PLACEHOLDER", "spring-2").getBytes(StandardCharsets.UTF_8);
      for (Object body : new Object[] {first, second}) {
        Message request = template.getMessageConverter().toMessage(body, new org.springframework.amqp.core.MessageProperties());
        Message reply = template.sendAndReceive("", arguments[1], request);
        String type = request.getMessageProperties().getContentType();
        if (reply == null) {
          System.out.println(type + " no reply");
          continue;
        }
        String answer = new String(reply.getBody(), StandardCharsets.UTF_8);
        System.out.println(type + (answer.contains("\"code\":\"ok\"") ? " ok" : " " + answer));
      }
    } finally {
      connections.destroy();
    }
    // The factory's own threads outlive it.
    System.exit(0);
  }
}
