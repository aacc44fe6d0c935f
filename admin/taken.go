package admin

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"sluice/api"
	"sluice/delay"
	"sluice/fleet"
	"sluice/inventory"
)

// taken answers which processes take which sales and topics.
type taken struct {
	replier
	saleCache *inventory.SaleCache
	topics    *delay.Topics
	beats     *fleet.Instances
}

func (h *taken) routes(group gin.IRoutes) { group.GET("/workers", h.list) }

func (h *taken) list(c *gin.Context) {
	running, err := h.beats.List(c.Request.Context())
	if err == nil {
		err = h.topics.Refresh(c.Request.Context())
	}
	if err != nil {
		h.refuse(c, err)
		return
	}
	body := api.TakenList{Taken: []api.Taken{}}
	for _, one := range fleet.TakenBy(running, h.saleCache.Active(), h.topics.ToDeliver()) {
		body.Taken = append(body.Taken, api.Taken{Kind: one.Kind, Name: one.Name, Instances: orEmpty(one.By)})
	}
	c.JSON(http.StatusOK, body)
}
