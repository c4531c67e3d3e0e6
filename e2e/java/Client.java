// Makes a bidirectional call with grpc-java, Java's published client, at each address that is an
// argument. It sends five messages, each after the reply to the one before. It prints each reply in
// base64, and then the status. The variable SCRIPT is the metadata probe-script.

import static io.grpc.MethodDescriptor.MethodType.BIDI_STREAMING;

import io.grpc.CallOptions;
import io.grpc.ClientInterceptors;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.MethodDescriptor.Marshaller;
import io.grpc.Status;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.MetadataUtils;
import io.grpc.stub.StreamObserver;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.util.Base64;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;

class Client implements StreamObserver<byte[]>, Marshaller<byte[]> {
    private final BlockingQueue<Object> arrivals = new LinkedBlockingQueue<>(); // replies, and the Status

    public static void main(String[] addresses) throws InterruptedException {
        for (String address : addresses) {
            ManagedChannel channel = ManagedChannelBuilder.forTarget(address).usePlaintext().build();
            new Client().converse(channel);
            channel.shutdownNow();
        }
    }

    private void converse(ManagedChannel channel) throws InterruptedException {
        var method = MethodDescriptor.newBuilder(this, this).setType(BIDI_STREAMING).setFullMethodName("culvert.e2e.v1.Probe/Bidi").build();
        var metadata = new Metadata();
        metadata.put(Metadata.Key.of("probe-script", Metadata.ASCII_STRING_MARSHALLER), System.getenv("SCRIPT"));
        var calls = ClientInterceptors.intercept(channel, MetadataUtils.newAttachHeadersInterceptor(metadata));
        var requests = ClientCalls.asyncBidiStreamingCall(calls.newCall(method, CallOptions.DEFAULT), this);
        for (byte n = 0; n < 5; n++) {
            requests.onNext(new byte[] {8, n}); // Request.sequence
            if (show() instanceof Status) {
                return;
            }
        }
        requests.onCompleted();
        show();
    }

    private Object show() throws InterruptedException {
        Object arrival = arrivals.take();
        System.out.println(arrival instanceof byte[] reply ? Base64.getEncoder().encodeToString(reply) : arrival);
        return arrival;
    }

    @Override
    public void onNext(byte[] reply) {
        arrivals.add(reply);
    }

    @Override
    public void onError(Throwable t) {
        arrivals.add(Status.fromThrowable(t));
    }

    @Override
    public void onCompleted() {
        arrivals.add(Status.OK);
    }

    @Override
    public InputStream stream(byte[] message) {
        return new ByteArrayInputStream(message);
    }

    @Override
    public byte[] parse(InputStream message) {
        try {
            return message.readAllBytes();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
