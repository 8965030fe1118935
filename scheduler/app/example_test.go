package app_test

import (
	"errors"
	"fmt"

	"pacer/scheduler/app"
)

func ExampleParse() {
	_, err := app.Parse([]byte(`{
		"id": "/shop/Cart",
		"cmd": "./cart --port $PORT0",
		"cpu": 0.5,
		"healthChecks": [{"path": "health"}]
	}`))
	var problems *app.Error
	if errors.As(err, &problems) {
		for _, p := range problems.Problems {
			fmt.Println(p.Path, p.Errors[0])
		}
	}
	// Output:
	// /cpu is not a field of an app; did you mean "cpus"?
	// /healthChecks(0)/path must begin with a slash
	// /id must be parts of lower-case letters, digits, hyphens and dots, separated by slashes; a part begins and ends with a letter or digit, e.g. /shop/cart-2
}

func ExampleCompare() {
	stored, _ := app.Parse([]byte(`{"id": "/a", "cmd": "./a"}`))
	for _, change := range []string{
		`{"instances": 5}`,
		`{"upgradeStrategy": {"minimumHealthCapacity": 0.5}}`,
		`{"mem": 256}`,
	} {
		changed, _ := stored.Merge([]byte(change))
		c := app.Compare(stored, changed)
		fmt.Println(c.Scaled, c.Scheduling, c.Replacing)
	}
	// Output:
	// true [] []
	// false [upgradeStrategy] []
	// false [] [mem]
}
