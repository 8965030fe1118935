package zookeeper

import (
	"encoding/json"
	"fmt"
	"strings"

	"pacer/executor/registry"
)

// memberPrefix begins the name of each entry; ZooKeeper appends ten digits.
const memberPrefix = "member_"

// serviceInstance is the JSON of an entry, see twitter-commons'
// endpoint.thrift and Finagle's JsonCodec. Fields are in the order in which
// Finagle writes them, apart from shard, which it writes last as well.
type serviceInstance struct {
	ServiceEndpoint     endpoint            `json:"serviceEndpoint"`
	AdditionalEndpoints map[string]endpoint `json:"additionalEndpoints"`
	Status              string              `json:"status"`
	Shard               *int                `json:"shard,omitempty"`
}

type endpoint struct {
	Host string `json:"host"`
	Port int    `json:"port"`
}

// encode renders an instance. The same instance always gives the same bytes.
func encode(inst registry.Instance) ([]byte, error) {
	if inst.Host == "" || inst.Port < 1 || inst.Port > 65535 {
		return nil, fmt.Errorf("instance %s of %s has no usable address (%q, port %d)", inst.TaskID, inst.Name, inst.Host, inst.Port)
	}
	si := serviceInstance{
		ServiceEndpoint:     endpoint{inst.Host, inst.Port},
		AdditionalEndpoints: make(map[string]endpoint, len(inst.Endpoints)),
		Status:              "ALIVE",
	}
	for name, port := range inst.Endpoints {
		si.AdditionalEndpoints[name] = endpoint{inst.Host, port}
	}
	if inst.Shard >= 0 {
		si.Shard = &inst.Shard
	}
	return json.Marshal(si)
}

// dir is the path of the ServerSet of an instance.
func (c Config) dir(inst registry.Instance) (string, error) {
	p := strings.NewReplacer("{name}", inst.Name, "{app}", inst.App).Replace(c.Path)
	if err := validatePath(p); err != nil {
		return "", fmt.Errorf("service %q of app %q: %w", inst.Name, inst.App, err)
	}
	return p, nil
}
