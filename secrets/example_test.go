package secrets_test

import (
	"fmt"

	"pacer/secrets"
)

func ExampleParseLabels() {
	d, err := secrets.ParseLabels(map[string]string{
		"secret.env.DB_PASSWORD": "secret/web/db#password@3",
		"secret.file.tls.pem":    "secret/web/tls#pem;mode=0440",
		"team":                   "web",
	})
	fmt.Println(d.Variables[0].Name, d.Variables[0].Ref, err)
	fmt.Printf("%s %s %#o\n", d.Files[0].Name, d.Files[0].Ref, d.Files[0].Mode)

	_, err = secrets.ParseLabels(map[string]string{
		"secret.env.DB_PASSWORD": "secret/web/db",
		"secret.env.API_KEY":     "secret/../other#key",
	})
	fmt.Println(err)
	// Output:
	// DB_PASSWORD secret/web/db#password@3 <nil>
	// tls.pem secret/web/tls#pem 0440
	// label secret.env.API_KEY: path has a '.' or '..' element: write the mount and the path below it, for example secret/web/db; label secret.env.DB_PASSWORD: names no key: write PATH#KEY, for example secret/web/db#password
}
