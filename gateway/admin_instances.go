package gateway

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"sluice/api"
	"sluice/queue"
)

func instanceOf(i queue.Instance) api.Instance {
	return api.Instance{ID: i.ID, Roles: orEmpty(i.Roles), Version: i.Version, ConfigVersion: i.ConfigVersion, ConfigFile: i.ConfigFile, Payments: i.Payments,
		SchemaOldest: i.SchemaOldest, SchemaNewest: i.SchemaNewest, StartedAt: api.FormatTime(i.StartedAt), LastSeen: api.FormatTime(i.LastSeen)}
}

// listInstances shows every process that has said lately that it runs.
func (o *Ops) listInstances(c *gin.Context) {
	found, err := o.Beats.List(c.Request.Context())
	if err != nil {
		o.refuse(c, err)
		return
	}
	list := make([]api.Instance, len(found))
	for i, one := range found {
		list[i] = instanceOf(one)
	}
	c.JSON(http.StatusOK, gin.H{"instances": list})
}
