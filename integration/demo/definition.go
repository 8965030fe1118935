package main

import "path/filepath"

// serviceName is where the service is registered: /pacer/demo-web.
const serviceName = "demo-web"

// definition is the app as a team would write it for Marathon, with Pacer's
// labels.
func (s *stage) definition(version string) map[string]any {
	bin, err := binaries()
	if err != nil {
		// start has checked it.
		bin = "bin"
	}
	return map[string]any{
		"id":        appID,
		"cmd":       "exec " + filepath.Join(bin, "demo", "service"),
		"cpus":      0.1,
		"mem":       32,
		"instances": instances,
		"env":       map[string]string{"SERVICE_VERSION": version},
		"portDefinitions": []map[string]any{
			{"port": 0, "name": "http"},
		},
		"labels": map[string]string{
			"secret.env.DB_PASSWORD": "secret" + appID + "/db#password",
			"service.name":           serviceName,
			"drain":                  "500ms",
		},
		"healthChecks": []map[string]any{{
			"protocol": "MESOS_HTTP", "path": "/healthz", "portIndex": 0,
			"gracePeriodSeconds": 10, "intervalSeconds": 2, "timeoutSeconds": 2, "maxConsecutiveFailures": 3, "delaySeconds": 0,
		}},
		"upgradeStrategy":            map[string]any{"minimumHealthCapacity": 1, "maximumOverCapacity": 0.4},
		"taskKillGracePeriodSeconds": 10,
		"unreachableStrategy":        map[string]any{"inactiveAfterSeconds": 0, "expungeAfterSeconds": 0},
		"backoffSeconds":             1,
	}
}
