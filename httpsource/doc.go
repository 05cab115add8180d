// Package httpsource shows what an http or https URL leads to as a
// [diskimage.Source], or as a stream where the server knows no ranges.
//
// It asks with GET alone, never with HEAD: a link that is signed for GET
// answers HEAD with 403. The size comes from the Content-Range of a first
// small ranged GET, which also brings the front of the object.
//
// What can go wrong on the way, and what becomes of it:
//
//   - 5xx, 429, broken connections and a peer that is silent for too long: the
//     GET is repeated after a while, from the byte that was reached.
//   - The object is replaced: a strong ETag is sent along as If-Match, and each
//     answer's ETag (or Last-Modified, where there is no strong ETag) and size
//     are held against those of the first: [diskimage.ErrChanged].
//   - An answer that is not what was asked for (another range, a compressed
//     form, more bytes than it says): an error. Nothing is made up or guessed.
//   - A link expires half-way: an error that says so.
//
// A URL may hold secrets: neither its query string, its user information nor
// its fragment appears in an error, a note or a name, and none of the values
// of [Options.Header] either. The path is shown.
//
// A service that takes URLs from strangers sets [Options.Allow], say to
// [PublicOnly], so that they cannot make it reach into its own network.
//
// The semantics are those of RFC 9110 (HTTP Semantics), sections 13 and 14.
package httpsource
