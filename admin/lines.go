package admin

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/gin-gonic/gin"

	"sluice/api"
	"sluice/fleet"
	"sluice/inventory"
	"sluice/queue"
	"sluice/store/redis"
)

// viewsAtOnce bounds the lines looked at in one round trip.
const viewsAtOnce = 100

func queueBodyOf(sale string, v queue.View) *api.Line {
	if !v.Exists {
		return nil
	}
	return &api.Line{Sale: sale, Depth: v.Waiting, Capacity: v.Cap, OldestAgeSeconds: v.OldestAge.Seconds(),
		Stock: v.Stock, Isolated: v.Isolated,
		LeasedBatches: v.Leased, Retrying: v.Retrying, Dead: v.Dead, Admitted: v.Seq, Served: v.Served,
		Rebuilding: v.Rebuilding}
}

// lineViews shows lines with their rates.
type lineViews struct {
	lines     *queue.Lines
	saleCache *inventory.SaleCache
	beats     *fleet.Instances
	log       *slog.Logger
}

// one shows the line of one sale as it is right now; nil when there is none.
func (h *lineViews) one(ctx context.Context, sale string) (*api.Line, error) {
	v, err := h.lines.Of(sale).View(ctx)
	if err != nil {
		return nil, err
	}
	return h.rated(queueBodyOf(sale, v), h.refusals(ctx)), nil
}

// several shows the lines of some sales as they are now, each with its rates; nil where there is none. One that
// cannot be read says why, and the others are shown. One that did not answer the sale cache is not waited for.
func (h *lineViews) several(ctx context.Context, sales []string) []*api.Line {
	lines, asked := make(map[string]*api.Line, len(sales)), []string(nil)
	for _, sale := range sales {
		if e, ok := h.saleCache.Get(sale); ok && redis.Unavailable(e.Fault()) {
			lines[sale] = &api.Line{Sale: sale, Unread: e.Fault().Error()}
		} else {
			asked = append(asked, sale)
		}
	}
	refused := h.refusals(ctx)
	for some := range slices.Chunk(asked, viewsAtOnce) {
		views, failed := h.lines.Views(ctx, some)
		for i, sale := range some {
			if failed[i] != nil {
				lines[sale] = &api.Line{Sale: sale, Unread: failed[i].Error()}
			} else {
				lines[sale] = h.rated(queueBodyOf(sale, views[i]), refused)
			}
		}
	}
	list := make([]*api.Line, len(sales))
	for i, sale := range sales {
		list[i] = lines[sale]
	}
	return list
}

// refusals returns how many orders a second all gateways refuse, by sale; nil when that is not
// known.
func (h *lineViews) refusals(ctx context.Context) map[string]float64 {
	instances, err := h.beats.List(ctx)
	if err != nil {
		h.log.Warn("how many orders gateways refuse is not known", "error", err)
		return nil
	}
	sums := map[string]float64{}
	for _, one := range instances {
		for sale, n := range one.Refused {
			sums[sale] += n
		}
	}
	return sums
}

// rated adds the rates to a line, if there is one.
func (h *lineViews) rated(b *api.Line, refused map[string]float64) *api.Line {
	if b == nil {
		return nil
	}
	if e, ok := h.saleCache.Get(b.Sale); ok {
		flow := e.Flow()
		b.Rates = api.LineRates{Admitted: flow.Admitted, Drained: flow.Drained, Window: flow.Window.Seconds()}
	}
	if refused != nil {
		b.Rates.Refused = new(refused[b.Sale])
	}
	return b
}

// lines answers for lines, for what workers hold of them, and for the processes that serve them.
type lines struct {
	saleChecker
	views *lineViews
	lease time.Duration // of a batch
}

func (h *lines) routes(group gin.IRoutes) {
	group.GET("/queue", h.queue)
	group.GET("/sales/:sale/queue", h.showQueue)
	group.GET("/sales/:sale/leases", h.listLeases)
	group.GET("/instances", h.listInstances)
}

// queue pages through the lines by the ids of their sales: the cursor is the last id of a page. What this instance
// has not heard of yet, a sale that was created a moment ago, is missing.
func (h *lines) queue(c *gin.Context) {
	limit, bad := api.PageSize(c)
	after, going := c.GetQuery("cursor")
	if going && !queue.ValidSaleID(after) {
		bad = append(bad, api.BadCursor())
	}
	if len(bad) > 0 {
		api.WriteProblem(c, api.InvalidRequest(bad...))
		return
	}
	sales := slices.DeleteFunc(h.views.saleCache.Active(), func(sale string) bool { return sale <= after })
	slices.Sort(sales)
	list := api.LineList{Lines: []*api.Line{}}
	if len(sales) > limit {
		sales, list.NextCursor = sales[:limit], sales[limit-1]
	}
	for _, b := range h.views.several(c.Request.Context(), sales) {
		if b != nil {
			list.Lines = append(list.Lines, b)
		}
	}
	c.JSON(http.StatusOK, list)
}

// showQueue shows one line.
func (h *lines) showQueue(c *gin.Context) {
	line, ok := h.lineOf(c)
	if ok {
		c.JSON(http.StatusOK, line)
	}
}

// lineOf returns the line of the sale that the route names. It answers the request and returns
// false when there is none.
func (h *lines) lineOf(c *gin.Context) (*api.Line, bool) {
	sale := c.Param("sale")
	if !h.checkSale(c, sale) {
		return nil, false
	}
	line, err := h.views.one(c.Request.Context(), sale)
	switch {
	case err != nil:
		h.refuse(c, err)
		return nil, false
	case line == nil:
		api.WriteProblem(c, api.NewProblem(api.CodeNotFound,
			"This sale has no line: it ended long ago, or Redis has just lost it."))
		return nil, false
	}
	return line, true
}

// listLeases shows what workers hold of one line, those first whose lease ends first.
func (h *lines) listLeases(c *gin.Context) {
	limit, bad := api.PageSize(c)
	skip, bad := api.Skip(c, bad)
	if len(bad) > 0 {
		api.WriteProblem(c, api.InvalidRequest(bad...))
		return
	}
	if !h.checkSale(c, c.Param("sale")) {
		return
	}
	found, total, err := h.views.lines.Of(c.Param("sale")).Leases(c.Request.Context(), skip, limit)
	if err != nil {
		h.refuse(c, err)
		return
	}
	list := api.LeaseList{Leases: make([]api.Lease, len(found)), Total: total}
	if upTo := skip + int64(len(found)); upTo < total && len(found) > 0 {
		list.Next = upTo
	}
	for i, l := range found {
		list.Leases[i] = api.Lease{BatchID: l.Batch, Instance: l.Instance, Tickets: l.Tickets,
			Orders: orEmpty(l.Orders), Deadline: api.FormatTime(l.Deadline),
			AgeSeconds: max(h.lease-l.Left, 0).Seconds(), Overdue: l.Left < 0}
	}
	c.JSON(http.StatusOK, list)
}

func instanceOf(i fleet.Instance) api.Instance {
	return api.Instance{ID: i.ID, Roles: orEmpty(i.Roles), Version: i.Version, ConfigVersion: i.ConfigVersion,
		ConfigFile: i.ConfigFile, Payments: i.Payments, Sales: i.Sales, Topics: i.Topics,
		SchemaOldest: i.SchemaOldest, SchemaNewest: i.SchemaNewest, StartedAt: api.FormatTime(i.StartedAt),
		LastSeen: api.FormatTime(i.LastSeen)}
}

// listInstances shows every process that has said lately that it runs.
func (h *lines) listInstances(c *gin.Context) {
	found, err := h.views.beats.List(c.Request.Context())
	if err != nil {
		h.refuse(c, err)
		return
	}
	list := make([]api.Instance, len(found))
	for i, one := range found {
		list[i] = instanceOf(one)
	}
	c.JSON(http.StatusOK, gin.H{"instances": list})
}
