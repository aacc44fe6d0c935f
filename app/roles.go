package app

import (
	"fmt"

	"sluice/store/redis"
)

// Roles says which roles one process has.
type Roles struct{ Gateway, Worker, Notifier bool }

// AllRoles returns all roles, the default of a process.
func AllRoles() Roles { return Roles{Gateway: true, Worker: true, Notifier: true} }

// names returns the names of the chosen roles, as --role has them.
func (r Roles) names() (played []string) {
	for _, role := range []struct {
		name string
		is   bool
	}{{"gateway", r.Gateway}, {"worker", r.Worker}, {"notifier", r.Notifier}} {
		if role.is {
			played = append(played, role.name)
		}
	}
	return played
}

// refusePrivateRedis returns an error if a process that needs others has a Redis that others cannot reach. Its orders
// would wait for ever.
func refusePrivateRedis(mode string, roles Roles) error {
	if (mode == redis.ModeEmbedded || mode == redis.ModeManaged) && roles != AllRoles() {
		return fmt.Errorf("redis.mode %s belongs to one process: it must play all roles; "+
			"give redis.addrs to play some", mode)
	}
	return nil
}
