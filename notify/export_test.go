package notify

// What the tests of this package need to see from outside.
const RequeueChunk = requeueChunk
