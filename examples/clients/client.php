<?php
// Publishes one event, then prints results and dead subscriptions until it is stopped.
//
//     AMQP_URL=amqp://localhost php client.php shop < subscription.json     (php-amqplib 3)
require_once 'PhpAmqpLib/autoload.php'; // Debian's php-amqplib; with Composer: vendor/autoload.php

use PhpAmqpLib\Connection\AMQPStreamConnection;
use PhpAmqpLib\Message\AMQPMessage;
use PhpAmqpLib\Wire\AMQPTable;

$url = array_map('urldecode', parse_url(getenv('AMQP_URL') ?: 'amqp://127.0.0.1'));
$app = $argv[1];
// json_encode writes an empty array as []; new stdClass is {}. It escapes all but ASCII unless told not to, and an
// escaped character takes 6 bytes of the payload.
$event = ['id' => 'php-1', 'app' => $app, 'subscription' => json_decode(stream_get_contents(STDIN)),
    'payload' => ['title' => 'Grüße', 'data' => new stdClass()], 'expires_at' => gmdate('Y-m-d\TH:i:s\Z', time() + 3600)];
$unpublished = [json_encode($event, JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES | JSON_THROW_ON_ERROR)];

function take(AMQPMessage $delivery): void
{
    $message = json_decode($delivery->getBody(), false, 512, JSON_THROW_ON_ERROR);
    if (($message->change ?? null) === 'gone') {
        // DELETE … WHERE endpoint = ? AND updated_at < ?
        echo "gone {$message->recipient->endpoint} {$message->sent_at}\n";
    } elseif (isset($message->outcome)) {
        echo "result {$message->event_id} {$message->outcome} {$message->reason}\n";
    }
    $delivery->ack(); // after the work is done
}

while (true) {
    try {
        $connection = new AMQPStreamConnection($url['host'], $url['port'] ?? 5672, $url['user'] ?? 'guest',
            $url['pass'] ?? 'guest', substr($url['path'] ?? '', 1) ?: '/');
        $channel = $connection->channel();
        $channel->confirm_select();
        $refuse = fn() => throw new RuntimeException('the broker did not take the event');
        $channel->set_nack_handler($refuse);
        $channel->set_return_listener($refuse);
        $channel->basic_qos(0, 100, false);
        $table = new AMQPTable(['x-queue-type' => 'quorum']);
        $channel->queue_declare("$app.results", false, true, false, false, false, $table);
        $channel->queue_bind("$app.results", 'webpush.results', "delivery.$app.#");
        foreach (["$app.results", 'webpush.dead-subscriptions'] as $queue) {
            $channel->basic_consume($queue, '', false, false, false, false, 'take');
        }
        while ($unpublished) {
            $message = new AMQPMessage($unpublished[0], ['delivery_mode' => AMQPMessage::DELIVERY_MODE_PERSISTENT]);
            $channel->basic_publish($message, 'webpush.events', "$app.default", true);
            $channel->wait_for_pending_acks_returns(30);
            array_shift($unpublished); // after the confirm
        }
        while ($channel->is_consuming()) {
            $channel->wait();
        }
    } catch (Exception $error) {
        fwrite(STDERR, "connecting again: {$error->getMessage()}\n");
        sleep(1);
    }
}
