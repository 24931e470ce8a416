# Publishes one event, then prints results and dead subscriptions until it is stopped.
#
#     AMQP_URL=amqp://localhost ruby client.rb shop < subscription.json     (bunny 2.19 or later)
require 'bunny'
require 'json'
require 'logger'
require 'time'

APP = ARGV.fetch(0)
# Time#to_s is not RFC 3339, and JSON writes a Time by it: call iso8601.
EVENT = { id: 'ruby-1', app: APP, subscription: JSON.parse($stdin.read), payload: { title: 'Grüße' },
          expires_at: (Time.now.utc + 3600).iso8601 }.freeze

def take(channel, delivery, body)
  message = JSON.parse(body)
  if message['change'] == 'gone'
    # DELETE … WHERE endpoint = ? AND updated_at < ?
    puts "gone #{message['recipient']['endpoint']} #{message['sent_at']}"
  elsif message['outcome']
    puts "result #{message['event_id']} #{message['outcome']} #{message['reason']}"
  end
  channel.ack(delivery.delivery_tag) # after the work is done
end

def publish(channel, event)
  returned = false
  exchange = channel.topic('webpush.events', passive: true)
  exchange.on_return { returned = true }
  exchange.publish(JSON.generate(event), routing_key: "#{APP}.default", persistent: true, mandatory: true)
  raise 'the broker did not take the event' if !channel.wait_for_confirms || returned
end

$stdout.sync = true
unpublished = [EVENT]
loop do
  # This loop connects again by itself, and publishes again what was not confirmed. Bunny logs to standard output.
  closed = Queue.new
  connection = Bunny.new(ENV.fetch('AMQP_URL', 'amqp://127.0.0.1'), automatically_recover: false,
                                                                    logger: Logger.new($stderr, level: :warn),
                                                                    session_error_handler: Thread.current)
  connection.start
  channel = connection.create_channel
  channel.confirm_select
  channel.prefetch(100)
  results = channel.queue("#{APP}.results", durable: true, arguments: { 'x-queue-type' => 'quorum' })
  results.bind('webpush.results', routing_key: "delivery.#{APP}.#")
  [results, channel.queue('webpush.dead-subscriptions', passive: true)].each do |queue|
    queue.subscribe(manual_ack: true) { |delivery, _properties, body| take(channel, delivery, body) }
  end
  unpublished.shift while unpublished.any? && publish(channel, unpublished.first).nil?
  closed.pop # until the connection raises its error in this thread
rescue Bunny::Exception, RuntimeError, SystemCallError => e
  warn "connecting again: #{e.message}"
  connection&.close(false) rescue nil
  sleep 1
end
