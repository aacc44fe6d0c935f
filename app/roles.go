package app

import (
	"fmt"

	"sluice/store/redis"
)

// Roles are the parts of Sluice one process plays.
type Roles struct{ Gateway, Worker, Notifier bool }

// AllRoles is what a process plays unless told otherwise.
func AllRoles() Roles { return Roles{Gateway: true, Worker: true, Notifier: true} }

// names are the roles that are played, as --role has them.
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

// alone refuses a Redis that nobody else can reach to a process that needs
// others: its orders would wait for a worker for ever.
func alone(mode string, roles Roles) error {
	if (mode == redis.ModeEmbedded || mode == redis.ModeManaged) && roles != AllRoles() {
		return fmt.Errorf("redis.mode %s belongs to one process: it must play all roles; "+
			"give redis.addrs to play some", mode)
	}
	return nil
}
