// Package vault reads secrets from HashiCorp Vault for package secrets.
//
// A [Client] is shared by all tasks of an executor. [Client.Open] logs in on
// behalf of one task, and the session reads key-value mounts of version 1 and 2
// (a mount's version is looked up once) and engines that give leases.
//
// # Logins
//
//	jwt      the task's own signed token; Vault tells the apps apart
//	approle  a role id and a secret id in files on the host; the latter may be
//	         response-wrapped, then where it was made is verified first
//	cert     the client certificate of VAULT_CLIENT_CERT
//	token    a token in a file on the host
//
// All but the first are credentials of the host, so that Vault cannot tell the
// apps apart: they work only below the operator's path template, which is
// checked before any request. With them tasks share one login for what gives
// no lease; leases belong to a login of the task's own and end with it. A
// token from a file cannot be given back, so that each lease is revoked by
// itself: its policy needs update on sys/leases/revoke.
//
// # Vault's set-up
//
// Apps read what is below their own path, and nothing else. SCHEDULER:PORT is
// where the schedulers' public keys are (--advertise). The period is how long a
// token outlives an executor that could not give it back, and how long leases
// outlive an outage.
//
//	vault secrets enable -path=secret -version=2 kv
//	vault auth enable jwt
//	vault write auth/jwt/config jwks_url=http://SCHEDULER:PORT/.well-known/jwks.json bound_issuer=pacer jwt_supported_algs=EdDSA
//	ACCESSOR=$(vault auth list -format=json | jq -r '."jwt/".accessor')
//	vault policy write pacer-app - <<EOF
//	path "secret/data/{{identity.entity.aliases.$ACCESSOR.name}}/*" {
//	  capabilities = ["read"]
//	}
//	EOF
//	vault write auth/jwt/role/pacer - <<EOF
//	{
//	  "role_type": "jwt",
//	  "user_claim": "app",
//	  "bound_claims": {"framework": "pacer"},
//	  "token_policies": ["pacer-app"],
//	  "token_period": "30m"
//	}
//	EOF
//
// The claim app has no leading slash, e.g. shop/cart; it becomes the name of
// the entity's alias, and one app is one entity. The claim framework is the
// scheduler's --framework-name: schedulers with other names need roles and paths
// of their own. Give Vault's own policy "default" to the role (it has it unless
// told otherwise): by it tokens renew and revoke themselves.
//
// # AppRole's set-up
//
//	vault auth enable approle
//	vault policy write pacer-host - <<EOF
//	path "secret/data/*" {
//	  capabilities = ["read"]
//	}
//	EOF
//	vault write auth/approle/role/pacer token_policies=pacer-host token_period=30m secret_id_num_uses=0
//
// The files on the host are made by
//
//	vault read -field=role_id auth/approle/role/pacer/role-id
//	vault write -wrap-ttl=10m -field=wrapping_token -f auth/approle/role/pacer/secret-id
//
// # Certificate's set-up
//
//	vault auth enable cert
//	vault policy write pacer-host - <<EOF
//	path "secret/data/*" {
//	  capabilities = ["read"]
//	}
//	EOF
//	vault write auth/cert/certs/pacer certificate=@CA.PEM token_policies=pacer-host token_period=30m
//
// # Failures
//
// The Vault library's own retries are off; there is one loop, here. What it
// does depends on the status code, never on a text:
//
//	refused, timeout, cut answer, 500, 502, 503, 504   wait and ask again
//	412, 429                                           wait and ask again
//	400, 403 and others at login                       fail
//	403 at a read                                      if the token has ended, log in once more; else fail
//	404, a deleted version                             fail
//	a certificate that does not verify                 fail
//	a wrapping token that is spent or from elsewhere   fail, and log a line with security=true
//
// While Vault cannot answer, one request at a time probes it for all tasks of
// the executor, with growing pauses; Retry-After is honoured. The caller is
// told what it waits for. The time to wait is the caller's: it ends with the
// context.
//
// Errors carry the path, the status and a remedy. They never carry Vault's
// answer, which can quote values, nor the token.
package vault
