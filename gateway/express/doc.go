// Package express serves the plain requests of a rush itself and hands every other connection to net/http.
//
// A plain request is HTTP/1.1 in its most common form. It has one of the owner's methods and paths, no query and no
// escapes. Its body has a known length, and all of it at most 8 KiB. At any difference the connection goes to net/http
// with every byte that was read, and stays there. So only net/http has to know all of HTTP.
//
// That saves half of net/http's cost per request. It spares deadlines that hardly move and a goroutine that watches
// for the client's leaving. It also spares maps and buffers for each request. An idle connection has no buffer.
package express
