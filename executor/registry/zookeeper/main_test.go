package zookeeper

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	zkserver "pacer/integration/zookeeper"
)

func TestMain(m *testing.M) {
	code := zkserver.Main(m)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			println(err.Error())
			code = 1
		}
	}
	os.Exit(code)
}
