package mesos

import "errors"

// KillMaster ends the leading master as kill -9 does. Agents look for another one.
func (c *Cluster) KillMaster() {
	if seat, _ := c.leading(); seat != nil {
		seat.Kill()
	}
}

// StartMaster starts a dead master again, on the same address.
func (c *Cluster) StartMaster() error {
	for _, s := range c.Seats() {
		if s.Master() == nil {
			return s.Start()
		}
	}
	return errors.New("cluster: a master is running already: call KillMaster first")
}

// Failover kills the leading master and starts another one on the same address. With
// ZooKeeper that one comes back as a follower.
func (c *Cluster) Failover() error {
	c.KillMaster()
	return c.StartMaster()
}
