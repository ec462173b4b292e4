// Streams a y4m video to the service frame by frame (I420) and writes each frame's mask as a PNG.
//
// Exit status: 0 done, 1 it could not be done (said on standard error), 2 usage.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	pb "humanseg/v1"
)

// Two or three keep the engine busy; more cost memory on both sides and gain nothing.
const maxUnanswered = 4

const help = `usage: sh examples/go/run.sh [-server HOST:PORT] [-model NAME] [-out DIR] VIDEO

VIDEO is a .y4m file, or - for y4m on standard input:

  ffmpeg -i talk.mp4 -pix_fmt yuv420p -color_range tv -f yuv4mpegpipe - | sh examples/go/run.sh -out masks -

writes masks/0000.png, 0001.png, ...
`

type options struct {
	server, model, out, video string
}

func main() {
	var chosen options
	flag.StringVar(&chosen.server, "server", "127.0.0.1:50051", "`HOST:PORT` of the service")
	flag.StringVar(&chosen.model, "model", "", "`NAME` of the model; the server's own by default")
	flag.StringVar(&chosen.out, "out", "masks", "`DIR` where masks go, made if missing")
	flag.Usage = func() {
		fmt.Fprint(flag.CommandLine.Output(), help)
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintf(os.Stderr, "one VIDEO is wanted, got %d\n", flag.NArg())
		flag.Usage()
		os.Exit(2)
	}
	chosen.video = flag.Arg(0)
	if err := run(chosen); err != nil {
		if told, isStatus := status.FromError(err); isStatus {
			err = fmt.Errorf("%s: %s", told.Code(), told.Message())
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(chosen options) error {
	input := os.Stdin
	if chosen.video != "-" {
		file, err := os.Open(chosen.video)
		if err != nil {
			return err
		}
		defer file.Close()
		input = file
	}
	video, err := openY4m(input)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(chosen.out, 0o777); err != nil {
		return err
	}
	connection, err := grpc.Dial(chosen.server, grpc.WithInsecure(),
		// Masks are smaller than the frames they belong to; gRPC's default of 4 MiB would refuse large ones.
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20), grpc.ForceCodec(codec{})))
	if err != nil {
		return err
	}
	defer connection.Close()
	// Ends the call whichever side gives up.
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	call, err := pb.NewSegmentationServiceClient(connection).StreamSegment(ctx)
	if err != nil {
		return err
	}
	room := make(chan struct{}, maxUnanswered)
	sent := make(chan error, 1)
	go func() {
		err := send(ctx, call, video, chosen.model, room)
		sent <- err
		if err != nil {
			cancel()
		}
	}()
	written, err := receive(call, chosen.out, room)
	if err != nil {
		cancel()
		// A video that cannot be read ends the call as well, and is the one to tell; a call that has ended is no
		// fault of the sender's, and io.EOF is what it sees then.
		if cause := <-sent; cause != nil && cause != io.EOF && cause != context.Canceled {
			return cause
		}
		return err
	}
	if err := <-sent; err != nil {
		return fmt.Errorf("the server ended the stream early, after %d masks: %w", written, err)
	}
	if written == 0 {
		return fmt.Errorf("the video holds no picture")
	}
	fmt.Printf("%d masks of %dx%d in %s\n", written, video.width, video.height, chosen.out)
	return nil
}

// send sends the config and every frame; room is a place for each frame without an answer.
func send(
	ctx context.Context, call pb.SegmentationService_StreamSegmentClient, video *y4m, model string, room chan<- struct{},
) error {
	config := &pb.SessionConfig{
		Model: model, Width: uint32(video.width), Height: uint32(video.height),
		PixelFormat:  pb.PixelFormat_PIXEL_FORMAT_I420,
		FramePolicy:  pb.FramePolicy_FRAME_POLICY_EVERY,
		MaskEncoding: pb.MaskEncoding_MASK_ENCODING_PNG,
		SessionLabel: "go",
	}
	first := &pb.StreamSegmentRequest{Message: &pb.StreamSegmentRequest_Config{Config: config}}
	if err := call.Send(first); err != nil {
		return err
	}
	for id := uint64(1); ; id++ {
		picture, timeUs, err := video.next()
		if err == io.EOF {
			return call.CloseSend()
		}
		if err != nil {
			return err
		}
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		frame := &pb.Frame{FrameId: id, CaptureTimeUs: timeUs, Picture: picture}
		if err := call.Send(&pb.StreamSegmentRequest{Message: &pb.StreamSegmentRequest_Frame{Frame: frame}}); err != nil {
			return err
		}
	}
}

// receive writes the masks until the call ends; how many there were.
func receive(call pb.SegmentationService_StreamSegmentClient, folder string, room <-chan struct{}) (int, error) {
	for written := 0; ; {
		answer, err := call.Recv()
		if err == io.EOF {
			return written, nil
		}
		if err != nil {
			return written, err
		}
		result := answer.GetResult()
		if result == nil {
			continue
		}
		if result.Outcome != pb.FrameOutcome_FRAME_OUTCOME_MASK {
			return written, fmt.Errorf("frame %d has no mask: %s %s", result.FrameId, result.DropReason, result.DropDetail)
		}
		name := filepath.Join(folder, fmt.Sprintf("%04d.png", result.FrameId-1))
		if err := os.WriteFile(name, result.Mask, 0o666); err != nil {
			return written, err
		}
		written++
		<-room
	}
}
