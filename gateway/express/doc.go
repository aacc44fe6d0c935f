// Package express serves the plain requests of a rush on connections of its
// own and hands every other connection to net/http.
//
// A plain request is HTTP/1.1 in its commonest form: one of the methods and
// paths its owner names, no query, no escapes, a body of known length, all of it within 8 KiB
// (RFC 9112 allows far more). Whatever differs in the least is not judged
// here: the connection goes to net/http with every byte that was read, and
// stays there. So there is one place that knows all of HTTP, and it is not this.
//
// What that saves per request is half of what net/http costs: deadlines that
// are set anew although they have hardly moved, a goroutine that watches for the client's
// leaving, and maps and buffers made for one request. An idle connection holds no
// buffer at all.
package express
