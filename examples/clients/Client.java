// Publishes one event, then prints results and dead subscriptions until it is stopped.
//
//     AMQP_URL=amqp://localhost java -cp 'lib/*' Client.java shop < subscription.json
//
// In lib: amqp-client 5, jackson-databind 2 and what they need. No test runs this file; run by hand on 2026-11-26.
import com.fasterxml.jackson.databind.*;
import com.rabbitmq.client.*;
import java.io.IOException;
import java.time.*;
import java.util.*;
import java.util.concurrent.*;
class Client {
  static final ObjectMapper JSON = new ObjectMapper();

  // Jackson writes an Instant as a number unless told not to, and a LocalDateTime has no offset: Instant.toString() has Z.
  static byte[] event(String app) throws IOException {
    var expiresAt = Instant.now().plus(Duration.ofHours(1)).toString();
    return JSON.writeValueAsBytes(Map.of("id", "java-1", "app", app, "subscription", JSON.readTree(System.in),
        "payload", Map.of("title", "Grüße"), "expires_at", expiresAt));
  }

  static void take(Channel channel, Delivery delivery) throws IOException {
    JsonNode message = JSON.readTree(delivery.getBody());
    if (message.path("change").asText().equals("gone")) { // DELETE … WHERE endpoint = ? AND updated_at < ?
      System.out.println("gone " + message.at("/recipient/endpoint").asText() + " " + message.get("sent_at").asText());
    } else if (message.has("outcome")) {
      var words = List.of("result", message.get("event_id").asText(), message.get("outcome").asText());
      System.out.println(String.join(" ", words) + " " + message.get("reason").asText());
    }
    channel.basicAck(delivery.getEnvelope().getDeliveryTag(), false); // after the work is done
  }

  public static void main(String[] args) throws Exception {
    var app = args[0];
    var unpublished = new ArrayDeque<>(List.of(event(app)));
    var factory = new ConnectionFactory();
    factory.setUri(System.getenv().getOrDefault("AMQP_URL", "amqp://127.0.0.1"));
    factory.setAutomaticRecoveryEnabled(false); // the recovery does not publish again what was not confirmed
    for (;; Thread.sleep(1000)) {
      try (var connection = factory.newConnection(); var channel = connection.createChannel()) {
        var closed = new CompletableFuture<Void>();
        channel.addShutdownListener(closed::completeExceptionally);
        channel.confirmSelect();
        channel.addReturnListener(returned -> closed.completeExceptionally(new IOException(returned.getReplyText())));
        channel.basicQos(100);
        channel.queueDeclare(app + ".results", true, false, false, Map.of("x-queue-type", "quorum"));
        channel.queueBind(app + ".results", "webpush.results", "delivery." + app + ".#");
        for (var queue : List.of(app + ".results", "webpush.dead-subscriptions"))
          channel.basicConsume(queue, false, (tag, delivery) -> take(channel, delivery), tag -> closed.cancel(true));
        while (!unpublished.isEmpty() && !closed.isDone()) {
          var persistent = MessageProperties.PERSISTENT_BASIC;
          channel.basicPublish("webpush.events", app + ".default", true, persistent, unpublished.peek());
          channel.waitForConfirmsOrDie(30_000); // a returned event is confirmed as well
          if (!closed.isDone()) unpublished.remove();
        }
        closed.get();
      } catch (Exception error) { System.err.println("connecting again: " + error); }
    }
  }
}
