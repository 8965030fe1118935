// Package access decides who may do what through the API.
//
// A [Guard] reads two files, again whenever one of them changes.
//
// The users file has one subject a line, with what proves it:
//
//	# HTTP Basic: a bcrypt hash, as "htpasswd -nB alice" prints it
//	alice:$2y$10$...
//	# a bearer token: its SHA-256 in hex, as sha256sum prints it
//	ci:sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
//
// The rules file has one rule a line: a path, verbs, subjects. The path is
// that of an app or of a group of them; "/" is all. Verbs are view, create,
// update, delete or *, subjects are names or *, both with commas between:
//
//	/        view    *
//	/shop    *       alice,ci
//
// What no rule allows is not allowed. Rules only ever add: there is no order
// to get wrong. Whoever may do something with a path may do it with everything
// below.
package access
