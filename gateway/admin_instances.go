package gateway

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"sluice/queue"
)

type instanceBody struct {
	ID            string   `json:"id"`
	Roles         []string `json:"roles"`
	Version       string   `json:"version"`
	ConfigVersion int64    `json:"config_version"`
	ConfigFile    string   `json:"config_file"`
	Payments      bool     `json:"payments"`
	SchemaOldest  int64    `json:"schema_oldest"`
	SchemaNewest  int64    `json:"schema_newest"`
	StartedAt     string   `json:"started_at"`
	LastSeen      string   `json:"last_seen"`
}

func instanceOf(i queue.Instance) instanceBody {
	return instanceBody{ID: i.ID, Roles: orEmpty(i.Roles), Version: i.Version, ConfigVersion: i.ConfigVersion, ConfigFile: i.ConfigFile, Payments: i.Payments,
		SchemaOldest: i.SchemaOldest, SchemaNewest: i.SchemaNewest, StartedAt: formatTime(i.StartedAt), LastSeen: formatTime(i.LastSeen)}
}

// listInstances shows every process that has said lately that it runs.
func (o *Ops) listInstances(c *gin.Context) {
	found, err := o.Beats.List(c.Request.Context())
	if err != nil {
		o.refuse(c, err)
		return
	}
	list := make([]instanceBody, len(found))
	for i, one := range found {
		list[i] = instanceOf(one)
	}
	c.JSON(http.StatusOK, gin.H{"instances": list})
}
