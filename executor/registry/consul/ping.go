package consul

import (
	"context"
	"fmt"

	"github.com/hashicorp/consul/api"
)

// Ping asks the agent which node it is for: it fails where the agent does not
// answer, or refuses the token.
func Ping(ctx context.Context, c Config) (node string, err error) {
	client, closeIdle, err := c.client()
	if err != nil {
		return "", fmt.Errorf("consul: %w", err)
	}
	defer closeIdle()
	var self struct{ Config struct{ NodeName string } }
	if _, err := client.Raw().Query("/v1/agent/self", &self, new(api.QueryOptions).WithContext(ctx)); err != nil {
		return "", fmt.Errorf("ask the Consul agent at %s: %w", c.Address, err)
	}
	return self.Config.NodeName, nil
}
