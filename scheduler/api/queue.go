package api

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"pacer/scheduler/access"
	"pacer/scheduler/app"
)

type queueBody struct {
	Queue []queueItemBody `json:"queue"`
}

type queueItemBody struct {
	Count                  int        `json:"count"`
	Delay                  delayBody  `json:"delay"`
	Since                  string     `json:"since"`
	Reason                 string     `json:"reason"`
	ProcessedOffersSummary offersBody `json:"processedOffersSummary"`
	// RejectedConstraints count what each constraint declined, Pacer's own.
	RejectedConstraints []constraintBody `json:"rejectedConstraints"`
	LastUnusedOffers    []unusedBody     `json:"lastUnusedOffers,omitzero"`
	App                 json.RawMessage  `json:"app"`
}

type unusedBody struct {
	Offer     offerBody `json:"offer"`
	Reason    []string  `json:"reason"`
	Timestamp string    `json:"timestamp"`
}

type offerBody struct {
	ID       string `json:"id"`
	Hostname string `json:"hostname"`
	AgentID  string `json:"agentId"`
}

type constraintBody struct {
	Constraint []string `json:"constraint"`
	Declined   int      `json:"declined"`
}

func constraintParts(c app.Constraint) []string {
	if c.Value == "" {
		return []string{c.Field, string(c.Operator)}
	}
	return []string{c.Field, string(c.Operator), c.Value}
}

type delayBody struct {
	TimeLeftSeconds int  `json:"timeLeftSeconds"`
	Overdue         bool `json:"overdue"`
}

type offersBody struct {
	ProcessedOffersCount       int             `json:"processedOffersCount"`
	UnusedOffersCount          int             `json:"unusedOffersCount"`
	LastUnusedOfferAt          string          `json:"lastUnusedOfferAt,omitempty"`
	LastUsedOfferAt            string          `json:"lastUsedOfferAt,omitempty"`
	RejectSummaryLastOffers    []rejectionBody `json:"rejectSummaryLastOffers"`
	RejectSummaryLaunchAttempt []rejectionBody `json:"rejectSummaryLaunchAttempt"`
}

type rejectionBody struct {
	Reason    string `json:"reason"`
	Declined  int    `json:"declined"`
	Processed int    `json:"processed"`
}

// queue shows what waits and why: in Marathon's counts per reason, and in
// "reason" as one line for people.
func (s *server) queue(w http.ResponseWriter, r *http.Request) error {
	items, err := s.backend.Queue(r.Context())
	if err != nil {
		return err
	}
	now := time.Now()
	body := queueBody{Queue: make([]queueItemBody, 0, len(items))}
	allowed := s.mayView(r)
	unused := slices.Contains(r.URL.Query()["embed"], "lastUnusedOffers")
	for _, item := range items {
		if !allowed(item.App.ID) {
			continue
		}
		left := max(0, item.NotBefore.Sub(now))
		rejections := make([]rejectionBody, 0, len(item.Rejections))
		for _, rejection := range item.Rejections {
			rejections = append(rejections, rejectionBody(rejection))
		}
		constraints := make([]constraintBody, 0, len(item.Constraints))
		for _, c := range item.Constraints {
			constraints = append(constraints, constraintBody{constraintParts(c.Constraint), c.Declined})
		}
		var offers []unusedBody
		if unused {
			offers = make([]unusedBody, 0, len(item.Unused))
			for _, u := range item.Unused {
				offers = append(offers, unusedBody{offerBody{u.OfferID, u.Hostname, u.AgentID}, []string{u.Reason}, timestamp(item.LastUnusedOffer)})
			}
		}
		body.Queue = append(body.Queue, queueItemBody{
			RejectedConstraints: constraints,
			LastUnusedOffers:    offers,
			Count:               item.Count,
			Delay:               delayBody{TimeLeftSeconds: int(math.Ceil(left.Seconds())), Overdue: left == 0},
			Since:               timestamp(item.Since),
			Reason:              item.Reason,
			ProcessedOffersSummary: offersBody{
				ProcessedOffersCount:       item.ProcessedOffers,
				UnusedOffersCount:          item.UnusedOffers,
				LastUnusedOfferAt:          timestamp(item.LastUnusedOffer),
				LastUsedOfferAt:            timestamp(item.LastUsedOffer),
				RejectSummaryLastOffers:    rejections,
				RejectSummaryLaunchAttempt: rejections,
			},
			App: item.JSON,
		})
	}
	return reply(w, http.StatusOK, body)
}

// resetDelay ends the backoff of an app: DELETE /v2/queue/{app}/delay.
func (s *server) resetDelay(w http.ResponseWriter, r *http.Request) error {
	path, ok := strings.CutSuffix(strings.TrimPrefix(r.URL.Path, "/v2/queue/"), "/delay")
	if !ok {
		return methods{}.serve(w, r)
	}
	id := app.CanonicalID(path)
	if err := s.demand(r, access.Update, id); err != nil {
		return err
	}
	err := s.backend.ResetDelay(r.Context(), id)
	if errors.Is(err, ErrNotFound) {
		return refuse(http.StatusNotFound, "Application %s not found in tasks queue.", id)
	}
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
