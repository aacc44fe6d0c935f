<?php
// Receives messages of a subscription of Sluice, handles them and acknowledges them.
//
//     SLUICE_WORK=http://127.0.0.1:8082 SLUICE_TOKEN=... SLUICE_SUBSCRIPTION=stock php listener.php
//
// It may be killed at any time, and run as often as one likes: a message that was not acknowledged when its lease ends
// goes to another listener.

declare(strict_types=1);

// handle does the work. The same message may come again: what was done for an id must not be done twice.
function handle(array $message): void
{
    echo 'handled ', $message['id'], ' ', json_encode($message['body']), "\n";
}

// call posts a body and returns the answer. After a refusal it waits for as long as the answer says, and returns null.
function call(string $what, array $body): ?array
{
    $url = getenv('SLUICE_WORK') . '/work/v1/subscriptions/' . getenv('SLUICE_SUBSCRIPTION') . '/' . $what;
    $text = @file_get_contents($url, false, stream_context_create(['http' => [
        'method' => 'POST',
        'header' => ['Authorization: Bearer ' . getenv('SLUICE_TOKEN'), 'Content-Type: application/json'],
        'content' => json_encode($body),
        'timeout' => 60,
        'ignore_errors' => true, // the body of a refusal says why
    ]]));
    $headers = implode("\n", $http_response_header ?? []);
    if ($text !== false && preg_match('~^HTTP/\S+ 200~', $headers)) {
        return json_decode($text, true, 512, JSON_THROW_ON_ERROR);
    }
    fwrite(STDERR, "$what: " . ($text === false ? 'no answer' : $text) . "\n");
    sleep(preg_match('~^Retry-After: (\d+)~mi', $headers, $found) ? (int) $found[1] : 1);
    return null;
}

// settle says what became of messages. Those of a lease that has ended are handled again.
function settle(string $how, array $leases): void
{
    $fenced = $leases === [] ? [] : call($how, ['leases' => $leases])['fenced'] ?? [];
    if ($fenced !== []) {
        fwrite(STDERR, 'too late for ' . count($fenced) . " messages: handle fewer at once\n");
    }
}

while (true) {
    $done = $failed = [];
    foreach (call('receive', ['max' => 10, 'wait' => '20s'])['messages'] ?? [] as $message) {
        try {
            handle($message);
            $done[] = $message['lease'];
        } catch (Throwable $error) { // whatever it is, another attempt is made
            fwrite(STDERR, $message['id'] . ': ' . $error->getMessage() . "\n");
            $failed[] = $message['lease'];
        }
    }
    settle('ack', $done);
    settle('nack', $failed);
}
