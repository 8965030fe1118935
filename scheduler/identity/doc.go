// Package identity signs a token for every task, by which Vault knows who asks
// for a secret.
//
// A token is a JWT signed with Ed25519 (EdDSA):
//
//	iss        "pacer"
//	framework  name of the framework, e.g. "pacer": bind Vault roles to it
//	framework_id
//	app        the app's path without its leading slash, e.g. "shop/cart"
//	task       Mesos task ID (also jti)
//	agent      Mesos agent ID
//	iat, nbf, exp
//
// The expiry lies beyond the time that a launch may take. Tokens of a
// scheduler that was replaced stay valid: the public keys of all schedulers
// are kept in the store and served together as a JSON Web Key Set.
package identity
