package api

import (
	"encoding/json"
	"math"
	"net/http"
	"time"
)

type queueBody struct {
	Queue []queueItemBody `json:"queue"`
}

type queueItemBody struct {
	Count                  int             `json:"count"`
	Delay                  delayBody       `json:"delay"`
	Since                  string          `json:"since"`
	Reason                 string          `json:"reason"`
	ProcessedOffersSummary offersBody      `json:"processedOffersSummary"`
	App                    json.RawMessage `json:"app"`
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
	for _, item := range items {
		left := max(0, item.NotBefore.Sub(now))
		rejections := make([]rejectionBody, 0, len(item.Rejections))
		for _, rejection := range item.Rejections {
			rejections = append(rejections, rejectionBody(rejection))
		}
		body.Queue = append(body.Queue, queueItemBody{
			Count:  item.Count,
			Delay:  delayBody{TimeLeftSeconds: int(math.Ceil(left.Seconds())), Overdue: left == 0},
			Since:  timestamp(item.Since),
			Reason: item.Reason,
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
