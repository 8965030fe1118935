// Package mesos is a Mesos cluster for tests and demonstrations: an emulated master
// (package master) and agents (package agent) in this process, talking real HTTP to
// schedulers and executors, with executors as real processes in real sandboxes.
//
//	c := mesos.New(t, mesos.Config{Agents: 3})
//	c.MasterURL()            // http://127.0.0.1:port
//	c.Node(0).Kill()         // kill -9 of an agent; its executors live on
//	c.Node(0).Start()        // and back, with the same id
//	c.Failover()             // the master dies, another one starts on the same port
//
// With Config.ZooKeeper masters are elected, and there can be several: each has a Seat
// as each agent has a Node. With Config.Simulated there are agents whose tasks exist in
// memory only (package simulated), as many as a benchmark needs. Everything that can go
// wrong on purpose is listed in faults.go.
//
// A Cluster listens on loopback only. The ports that its agents offer come from
// blocks that no other Cluster on this machine uses, so that tests of several
// packages can run side by side.
//
// Import it under another name beside mesos-go's package mesos, e.g.
//
//	emulator "pacer/integration/mesos"
package mesos
