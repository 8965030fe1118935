// Package api is the scheduler's HTTP API: the subset of Marathon's v2 dialect
// that its clients need, over a [Backend].
//
// [New] makes the handler for operators and clients, [NewPublic] the one for
// agents and Vault (the executor's binary and the public keys), which needs no
// authentication and gets a listener of its own.
//
// Error bodies are {message} or {message, details: [{path, errors[]}]}. What a
// client did wrong is always a 4xx: clients of Marathon take a host that
// answers 5xx for dead. What changes something answers with the header
// Marathon-Deployment-Id.
//
// No request renders or parses more than it is about: definitions come
// rendered from the Backend, lists are put together from these bytes and the
// live counters.
package api
